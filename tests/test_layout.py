"""The shape of the repository: imports point down, tests mirror modules, CHANGELOG has sections.

``tests/`` mirrors ``mmsn/`` and ``tools/``, with a short list of exceptions. Imports follow the
order of the list in CONTRIBUTING.md.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Tests that no single module owns, by what they look at.
OF_THE_REPOSITORY = {
    "test_docs.py",
    "test_import.py",
    "test_layout.py",
    "test_site.py",  # of docs/
    "test_snippets.py",
    "test_tutorial.py",  # docs/tutorial.ipynb
    "tools/test_arguments.py",  # the flags of all commands
    "tools/test_packaging.py",
    "tools/test_cli.py",  # mmsn_cli
}
OF_WHOLE_RUNS = {
    "deploy/test_extraction_runs.py",
    "engine/test_adopted_run.py",
    "engine/test_config_checks.py",
    "engine/test_depth_runs.py",
    "engine/test_distributed.py",
    "engine/test_label_assisted_runs.py",
    "engine/test_frozen_runs.py",
    "engine/test_guarded_ranks.py",
    "engine/test_runs.py",
    "engine/test_swin_run.py",
    "tools/test_round_trip.py",
}
OF_A_CONCEPT = {  # that crosses modules
    "deploy/test_eva.py",
    "deploy/test_swin.py",
    "deploy/test_extraction_properties.py",
    "engine/test_pareto_chunks.py",
    "models/test_anchor_docs.py",
    "models/test_elastic.py",
    "models/test_real_weights.py",
    "models/test_stitched_vit_subset.py",
    "models/test_training_stitches.py",
    "stitching/test_properties.py",
}
LISTED = OF_THE_REPOSITORY | OF_WHOLE_RUNS | OF_A_CONCEPT
OTHER_FOLDERS = ("campaigns", "configs")  # which mirror folders of their own
WITHOUT_CODE = {"version.py"}


def modules(root: Path) -> list[Path]:
    return [p.relative_to(root) for p in root.rglob("*.py") if p.name != "__init__.py"]


def files_of_tests() -> set[str]:
    return {p.relative_to(ROOT / "tests").as_posix() for p in (ROOT / "tests").rglob("test_*.py")}


def mirror_of(module: Path) -> str:
    return (module.parent / f"test_{module.name}").as_posix()


def test_every_module_has_a_test_file() -> None:
    wanted = {mirror_of(m) for m in modules(ROOT / "mmsn") if m.as_posix() not in WITHOUT_CODE}
    assert sorted(wanted - files_of_tests()) == []


def test_every_test_file_has_a_module_or_is_listed() -> None:
    known = {mirror_of(module) for module in modules(ROOT / "mmsn")}
    # tools/_speed.py is tested by tests/tools/test_speed.py, like tools/dataset_converters/x.py
    # by tests/tools/test_x.py.
    known |= {f"tools/test_{m.name.lstrip('_')}" for m in modules(ROOT / "tools")}
    found = {name for name in files_of_tests() if not name.startswith(OTHER_FOLDERS)}
    assert sorted(found - known - LISTED) == []


@pytest.mark.parametrize("name", sorted(LISTED))
def test_the_list_names_files_that_exist(name: str) -> None:
    assert (ROOT / "tests" / name).is_file()


def layout() -> list[str]:
    """Rooms and modules of ``mmsn``, from the top to the bottom of CONTRIBUTING's list."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.search(r"^mmsn/\n((?:  .*\n)+)", text, re.MULTILINE)
    assert listed is not None
    return [re.split(r"/|\.py", line.strip())[0] for line in listed[1].splitlines()]


def imports(path: Path) -> Iterator[str]:
    """Modules of ``mmsn`` that a file imports anywhere, except for annotations alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mmsn":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "mmsn")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in (ROOT / "mmsn").rglob("*.py")}


def test_the_layout_lists_what_there_is() -> None:
    there = {name.split(".")[1] for name in MODULES if "." in name}
    assert sorted(layout()) == sorted(there)


def test_imports_point_down() -> None:
    height = {room: -place for place, room in enumerate(layout())}
    wrong = []
    for name, path in MODULES.items():
        if name != "mmsn":
            room = name.split(".")[1]
            others = {other.split(".")[1] for other in imports(path) if other != "mmsn"} - {room}
            wrong += [f"{name} -> {other}" for other in others if height[other] > height[room]]
    assert wrong == []


def test_no_imports_form_a_circle() -> None:
    graph = {name: set(imports(path)) - {name} for name, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_method_needs_no_openmmlab() -> None:
    for path in (ROOT / "mmsn" / "stitching").glob("*.py"):
        assert not re.search(r"^(?:import|from) mm(?!sn\b)", path.read_text(), re.MULTILINE)


def test_each_section_of_the_changelog_stands_once() -> None:
    """Merges may double them, or leave bullets under the wrong one."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("#")]
    unreleased = headings[headings.index("## Unreleased") + 1 :]
    assert unreleased[:3] == ["### Added", "### Changed", "### Fixed"]
    assert all(line.startswith("## ") for line in unreleased[3:4])
    firsts = [line for line in lines if line.startswith("- ")]
    assert len(firsts) == len(set(firsts))
