"""Pictures of reports."""

import ast
from pathlib import Path

import pytest

from mmsn.evaluation import plot_pareto
from mmsn.evaluation.plot import drawable
from tests.evaluation.reports import depth_report, report, result


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_drawn(tmp_path, ending):
    path = tmp_path / f"curve.{ending}"
    plot_pareto(
        report(result(0, 5, 1.5), result(1, 9, 2.5)),
        path,
        alone={"small, 13% of the training compute": (5.0, 1.2)},
        levels=[("floor", 0.1), ("probe", 1.7)],
    )
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        assert b"floor: 0.1 (out of view)" in content or b"<!-- floor" in content
        # A star is named, as it says little without how long its network was trained.
        assert b"<!-- small, 13% of the training compute -->" in content


def test_several_runs_are_overlaid_in_a_picture(tmp_path):
    runs = [report(result(0, 5, 1.5), result(1, 9, 2.5)), report(result(0, 4, 1.0))]
    runs[1].title = "another <run>"
    plot_pareto(runs, tmp_path / "two.svg")
    assert b"another" in (tmp_path / "two.svg").read_bytes()


def test_titles_are_not_taken_for_formulas(tmp_path):
    odd = report(result(0, 5, 1.5), result(1, 9, 2.5), title=r"a[/b] $\foo$ [red]")
    plot_pareto([odd, odd], tmp_path / "x.png", alone={r"$\bar$": (1.0, 2.0)})
    plot_pareto(odd, tmp_path / "y.png")


@pytest.mark.parametrize("prefix", ["", "depth/"])
def test_depth_is_labeled_with_its_unit_and_its_direction(prefix, tmp_path):
    plot_pareto(depth_report(prefix), tmp_path / "x.svg", levels=[("constant depth", 0.5171)])
    assert f"<!-- {prefix}rmse (m, lower is better) -->" in (tmp_path / "x.svg").read_text()
    assert "<!-- constant depth: 0.5171 -->" in (tmp_path / "x.svg").read_text()


def test_what_is_not_finite_is_left_out(tmp_path):
    mine = report(result(0, 5, float("nan")), result(1, 9, float("inf")), result(2, 9, 1.0))
    plot_pareto(mine, tmp_path / "x.svg")
    assert [r.id for r in drawable(mine, "mIoU", "macs")] == [2]


def test_plotting_libraries_load_when_they_are_used():
    """They take part of a second, and few programs that import mmsn draw."""
    found = []
    for path in sorted((Path(__file__).parents[2] / "mmsn").rglob("*.py")):
        if path.name == "gradio_page.py":  # not a part of `import mmsn`: its tool alone loads it
            continue
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            modules = {
                name.partition(".")[0] for name in [*names, getattr(node, "module", "")] if name
            }
            if isinstance(node, (ast.Import, ast.ImportFrom)) and modules & {
                "matplotlib",
                "plotly",
            }:
                found.append(path.name)
    assert found == []
