"""The one line that says what is wrong with the installed stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsn import stack

FORKS = {
    "onedl-mmengine": "0.10.12",
    "onedl-mmcv": "2.3.6",
    "onedl-mmsegmentation": "1.4.2",
}
ORIGINALS = {"mmengine": "0.10.7", "mmcv-lite": "2.1.0", "mmsegmentation": "1.2.2"}


FIX_FORKS = "pip install onedl-mmengine onedl-mmcv"
FIX_ORIGINALS = "pip install mmengine==0.10.7 mmcv-lite"


@pytest.mark.parametrize(
    "installed", [FORKS, ORIGINALS, {**ORIGINALS, "mmengine": "0.11.0rc3"}], ids=repr
)
def test_working_stacks_pass(installed: dict[str, str]) -> None:
    assert stack.stack_problem(installed) is None


@pytest.mark.parametrize(
    ("installed", "words", "fix"),
    [
        (
            {},
            ["mmengine", "mmcv", "mmseg", "not installed"],
            FIX_FORKS,
        ),
        (
            {"mmengine": "0.10.7", "mmcv-lite": "2.1.0"},
            ["mmsegmentation", "not installed"],
            FIX_ORIGINALS,
        ),
        (
            {**FORKS, "mmengine": "0.10.7"},
            ["mmengine 0.10.7 and onedl-mmengine 0.10.12 are both installed"],
            "pip uninstall -y mmengine onedl-mmengine",
        ),
        ({**ORIGINALS, "mmcv": "2.1.0"}, ["mmcv 2.1.0 and mmcv-lite 2.1.0"], "uninstall -y mmcv "),
        (
            {**ORIGINALS, "mmengine": "0.9.1"},
            ["mmengine 0.9.1 is too old"],
            FIX_ORIGINALS,
        ),
        (
            {**FORKS, "onedl-mmcv": "3.0.0"},
            ["onedl-mmcv 3.0.0 is too new"],
            FIX_FORKS,
        ),
        (
            {**ORIGINALS, "mmcv-lite": "2.2.0"},
            ["mmsegmentation 1.2.2 refuses mmcv-lite 2.2.0", "mmcv<2.2.0"],
            "mmcv-lite==2.1.0",
        ),
        (
            {**FORKS, "onedl-mmsegmentation": "1.3.3"},
            ["onedl-mmsegmentation 1.3.3 is too old"],
            FIX_FORKS,
        ),
    ],
    ids=["nothing", "missing", "doubled", "lite-and-full", "old", "new", "mmcv-2.2", "old-fork"],
)
def test_a_problem_is_one_line_with_its_fix(
    installed: dict[str, str], words: list[str], fix: str
) -> None:
    problem = stack.stack_problem(installed)
    assert problem is not None
    assert "\n" not in problem
    for word in [*words, fix]:
        assert word in problem


def test_the_stack_of_this_environment_is_recognized() -> None:
    installed = stack.installed_versions()
    assert len(installed) == 3
    assert stack.stack_problem(installed) is None


def test_a_source_tree_counts_as_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_source_tree"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text("# comment\n__version__ = '1.2.3'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert stack._version_in_source("some_source_tree") == "1.2.3"
    assert stack._version_in_source("no_such_package") is None
