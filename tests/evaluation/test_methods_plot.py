"""Pictures of several methods."""

import re

import numpy as np
import pytest

from mmsn.evaluation.methods import load_families
from mmsn.evaluation.methods_plot import _apart, _beside, envelopes
from mmsn.evaluation.report import Training
from tests.evaluation.reports import G


def test_envelopes_are_the_best_within_each_budget(folder):
    (family,) = load_families(folder)
    gflops, heights = envelopes(list(family.runs["ours"].values()), "mIoU", 7 * G)
    assert gflops.tolist() == [2, 3, 4, 6, 7]
    assert heights.tolist() == [[12, 14, 16, 22, 22], [13, 14, 17, 22, 22]]


def test_labels_keep_their_distance_and_their_center():
    moved = _apart([1.0, 1.1, 1.2, 5.0], 1.0)
    assert min(np.diff(moved)) >= 1.0 - 1e-12
    assert np.mean(moved) == pytest.approx(np.mean([1.0, 1.1, 1.2, 5.0]))
    assert _apart([1.0, 4.0], 1.0) == [1.0, 4.0]
    assert _apart([], 1.0) == []


@pytest.mark.parametrize(
    ("gflops", "right", "height"),
    [(2, True, 11), (2, False, 10), (2.5, False, 11), (0.5, True, 10)],
)
def test_the_height_of_a_curve_beside_a_star(gflops, right, height):
    curve = np.array([1.0, 2.0, 3.0]), np.array([10.0, 11.0, 12.0])
    assert _beside(curve, gflops, right) == height


def test_the_picture_names_every_method_and_its_seeds(folder, tmp_path):
    from mmsn.evaluation.methods_plot import plot_methods

    (family,) = load_families(folder)
    plot_methods(family, tmp_path / "x.svg")
    texts = re.findall(r"<!-- (.*?) -->", (tmp_path / "x.svg").read_text())
    for text in ("ours", "SN-Netv2", "small alone", "large alone"):
        assert text in texts
    assert "a_b: best within the budget, 2 seeds" in texts

    (folder / "a_b_ours_1.json").unlink()
    plot_methods(load_families(folder)[0], tmp_path / "x.svg")
    assert "<!-- a_b: best within the budget, 1 to 2 seeds -->" in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize(
    ("macs", "name"), [(95, "large alone"), (50, "large alone, 50 % of the compute")]
)
def test_a_star_says_that_it_trained_for_another_compute(folder, tmp_path, macs, name):
    from mmsn.evaluation.methods_plot import plot_methods

    (family,) = load_families(folder)
    for method, by_seed in family.runs.items():
        for seed, report in by_seed.items():
            training = Training(train_macs=macs if method == "large" else 100)
            by_seed[seed] = report.model_copy(update={"training": training})
    plot_methods(family, tmp_path / "x.svg")
    assert name in re.findall(r"<!-- (.*?) -->", (tmp_path / "x.svg").read_text())


def test_ten_methods_have_ten_colors(folder, tmp_path):
    from mmsn.evaluation.methods_plot import plot_methods

    results = load_families(folder)[0].runs["ours"][0]
    for method in ("elastic", "snnet", *"cdefgh"):
        results.save(folder / f"a_b_{method}_0.json")
    (family,) = load_families(folder)
    plot_methods(family, tmp_path / "x.svg")
    colors = re.findall(
        r"stroke: (#[0-9a-f]{6}); stroke-width: 2;", (tmp_path / "x.svg").read_text()
    )
    assert len(colors) == len(set(colors)) == 10
