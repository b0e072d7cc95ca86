"""Pictures of reports."""

import pytest

from mmsn.evaluation import plot_pareto
from tests.evaluation.reports import report, result


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_drawn(tmp_path, ending):
    path = tmp_path / f"curve.{ending}"
    plot_pareto(
        report(result(0, 5, 1.5), result(1, 9, 2.5)),
        path,
        alone={"small": (5.0, 1.2)},
        levels=[("floor", 0.1), ("probe", 1.7)],
    )
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        assert b"floor: 0.1 (out of view)" in content or b"<!-- floor" in content


def test_several_runs_are_overlaid_in_a_picture(tmp_path):
    runs = [report(result(0, 5, 1.5), result(1, 9, 2.5)), report(result(0, 4, 1.0))]
    runs[1].title = "another <run>"
    plot_pareto(runs, tmp_path / "two.svg")
    assert b"another" in (tmp_path / "two.svg").read_bytes()
