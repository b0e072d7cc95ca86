"""The documentation builds as a site, without a warning: links lead somewhere, docstrings parse."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmsn import adopt, datasets, deploy, engine, evaluation, models, shrink, stitching
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")),
    reason="needs mmsn[docs]",
)


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Run sphinx-build with warnings as errors, on this checkout."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(target)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    pages = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.*")]
    pages = [p.with_suffix(".html") for p in pages if p.suffix in (".md", ".ipynb")]
    assert len(pages) > 20
    for page in pages:
        assert (site / page).is_file()
        assert f'href="{page.as_posix()}"' in index or page.name == "index.html", page


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    for package in (adopt, datasets, deploy, engine, evaluation, models, shrink, stitching):
        short = package.__name__.rpartition(".")[2]
        page = (site / "reference" / f"{short}.html").read_text()
        for name in package.__all__:
            if not callable(getattr(package, name)):
                continue  # constants have no docstrings
            assert f'id="{package.__name__}.{name}"' in page, f"{package.__name__}.{name}"


@pytest.mark.slow
def test_the_tutorial_shows_its_code_and_outputs(site: Path) -> None:
    page = (site / "tutorial.html").read_text()
    assert "data:image/png;base64," in page
    assert "highlight-python" in page


@pytest.mark.slow
def test_a_link_to_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (tmp_path / "index.md").write_text("# A\n\n[b](no_such_page.md) and [c](#no-such-part)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert "no_such_page.md" in done.stderr
    assert "no-such-part" in done.stderr
