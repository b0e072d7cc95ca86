"""The documentation as a site: ``sphinx-build -W docs _site``, with the extra ``docs``.

Pages are Markdown, read by MyST. README, CONTRIBUTING and CHANGELOG stay at the root of the
repository and are included. The API reference is made of docstrings, so mmsn must be installed.

Left out on purpose: running the notebook. ``tests/test_tutorial.py`` does that; the page shows the
outputs that are saved in it.
"""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import Any

project = "mmsn"
author = "The mmsn contributors"
release = metadata.version("mmsn")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}  # notebooks become Markdown below
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = "mmsn"
html_show_copyright = False

myst_heading_anchors = 4  # links such as page.md#a-section, as GitHub has them

# What __all__ of a package lists is its interface; most of it is imported from its modules.
autodoc_default_options = {
    "members": True,
    "imported-members": True,
    "ignore-module-all": False,
    "show-inheritance": True,
}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # not those of mmengine and PyTorch
napoleon_numpy_docstring = False


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook's cells and the outputs saved in it, as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        magic, _, rest = source.partition("\n")
        parts.append(f"```bash\n{rest}\n```" if magic == "%%bash" else f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                png = re.sub(r"\s", "", "".join(data["image/png"]))
                parts.append(f"![output of the cell above](data:image/png;base64,{png})")
            else:
                told = "".join(output.get("text") or data.get("text/plain", ""))
                parts.append(f"```text\n{told.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _read(app: Any, docname: str, content: list[str]) -> None:
    if docname == "tutorial":
        content[0] = notebook_page(json.loads(content[0]))


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
