"""Tables and pictures of all families in a folder, as one part of a Markdown page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmsn.errors import UserError
from mmsn.evaluation.methods import TITLES, Family, load_families
from mmsn.evaluation.methods_plot import plot_methods
from mmsn.evaluation.methods_table import methods_markdown
from mmsn.files import write_text

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"


def write_methods(
    folder: str | Path, page: str | Path, images: str | Path, metric: str | None = None
) -> list[Path]:
    """Compare the methods of each family; returns the files written.

    ``frontier_FAMILY.png`` shows the known methods, ``frontier_FAMILY_parts.png`` ours and all
    further ones. A page that exists keeps what is outside of the two marker lines.

    Args:
        folder: of reports named ``FAMILY_METHOD_SEED.json``.
        page: Markdown file.
        images: folder of the pictures.
        metric: by default that of each family's first report.

    Raises:
        UserError: reports that do not compare, or a page without the marker lines. Nothing is
            written then.
    """
    families, page, images = load_families(folder, metric), Path(page), Path(images)
    before, after = _around(page)  # before anything is written: the page may be refused
    written, sections = [], []
    for family in families:
        sections.append(f"## {family.name}\n")
        for subject, methods in _pictures(family).items():
            name = f"{family.name}{subject}"
            path = images / f"frontier_{family.name}{subject and '_parts'}.png"
            plot_methods(family, path, methods, subject)
            link = Path(os.path.relpath(path, page.parent)).as_posix()
            sections.append(f"![{name}: best {family.metric} within the budget]({link})\n")
            written.append(path)
        sections.append(methods_markdown(family))
    write_text(page, before + "\n".join([BEGIN, "", *sections, END]) + after)
    return [*written, page]


def _pictures(family: Family) -> dict[str, Sequence[str]]:
    """The methods of each picture, by what its title adds to the family's name."""
    known = [method for method in family.curves if method in TITLES]
    further = [method for method in family.curves if method not in TITLES]
    if not known or not further:
        return {"": known or further}
    beside = [method for method in ("snnetv2", "ours") if method in known]
    return {"": known, ", further methods": [*beside, *further]}


def _around(page: Path) -> tuple[str, str]:
    """What the page holds before and after the part that is written here."""
    if not page.exists():
        return "", "\n"
    if page.is_dir():
        raise UserError(f"page {page} is a folder: name the Markdown file to write")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(
            f"{page} has no place for the tables: put the lines {BEGIN} and {END} into it once"
        )
    return text.partition(BEGIN)[0], text.partition(END)[2]
