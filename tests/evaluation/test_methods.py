"""Methods on one family of anchors: their grouping from files, and their tables."""

import re
from pathlib import Path

import pytest

from mmsn.errors import UserError
from mmsn.evaluation import Training
from mmsn.evaluation.methods import Spread, load_families
from mmsn.evaluation.methods_table import methods_markdown
from tests.evaluation.reports import G, report, result, stitches


def test_reports_are_grouped_by_their_names(folder):
    (family,) = load_families(folder)
    assert family.name == "a_b"
    assert family.metric == "mIoU"
    assert list(family.runs) == ["small", "large", "snnetv2", "ours"]
    assert [list(by_seed) for by_seed in family.runs.values()] == [[0, 1]] * 4
    assert family.curves == ["snnetv2", "ours"]


def test_all_curves_share_one_range(folder):
    """It begins at 2 GFLOPs, where the curves do, and not at the 1.9 of the small anchor alone."""
    (family,) = load_families(folder)
    assert family.budgets == (2 * G, 6 * G)
    # seed 0: 12, 14, 16, 16 for a GFLOPs each; seed 1: 13, 14, 17, 17
    assert family.mean_best("ours").values == pytest.approx((14.5, 15.25))
    assert family.mean_best("snnetv2").values == pytest.approx((11.5, 11.5))
    # from (1.9, 10) to (6, 20), between 2 and 6
    middle = 10 + 10 * (4 - 1.9) / 4.1
    assert family.line().values == pytest.approx((middle, middle + 1))


def test_the_range_ends_at_the_large_anchor(folder):
    """SN-Net has stitches that cost more, because of their stitching layer."""
    curve = stitches((10, 11, 12, 13, 14))
    beyond = curve[1].model_copy(update=dict(id=9, macs=7 * G, metrics=dict(mIoU=99.0)))
    report(*curve, beyond, images=4).save(folder / "a_b_snnet_0.json")
    (family,) = load_families(folder)
    assert family.budgets == (2 * G, 6 * G)
    assert family.mean_best("snnet").values == pytest.approx((11.5,))  # 10, 11, 12 and 13
    assert family.end("snnet", most_expensive=True).values == (14.0,)


def test_the_best_of_each_budget_group(folder):
    (family,) = load_families(folder)
    groups = family.groups()
    assert [low for (low, _), _ in groups] == [2 * G, 3 * G, 4 * G, 5 * G, 6 * G]
    assert groups[2][1]["ours"].values == (16.0, 17.0)
    assert groups[3][1]["snnetv2"].values == (13.0, 13.0)


def test_the_line_takes_seeds_that_both_anchors_have(folder):
    (folder / "a_b_small_1.json").unlink()
    (family,) = load_families(folder)
    assert len(family.line().values) == 1
    (folder / "a_b_small_0.json").unlink()
    (family,) = load_families(folder)
    assert family.line() is None


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("ours_0", {}, r"ours_0\.json is not named FAMILY_METHOD_SEED"),
        ("a_b_ours_x", {}, "is not named FAMILY_METHOD_SEED"),
        ("a_b_ours_01", {}, "is not named FAMILY_METHOD_SEED"),
        ("a_b_ours_2", dict(image_size=(64, 64)), r"a_b_ours_2 has image_size \(64, 64\), a_b_sm"),
        ("a_b_ours_2", dict(of_images=9), "has of_images 9, a_b_small_0 has 4"),
        ("a_b_ours_2", dict(images=3), "a_b_ours_2 covers 3 of 4 images"),
        ("a_b_ours_2", dict(training=Training(seed=1)), "was trained with seed 1: rename"),
        ("a_b_small_2", {}, "a_b_small_2 holds 3 results: an anchor alone has one"),
    ],
)
def test_reports_that_do_not_compare_are_refused(folder, name, change, reason):
    fields = dict(images=4) | change
    report(*stitches([1.0, 2.0, 3.0]), **fields).save(folder / f"{name}.json")
    with pytest.raises(UserError, match=reason):
        load_families(folder)


@pytest.mark.parametrize("method", ["snnet", "label-teacher"])
def test_a_curve_of_one_network_is_refused_by_name(folder, method):
    report(result(1, 6 * G, 20.0), images=4).save(folder / f"a_b_{method}_0.json")
    with pytest.raises(UserError, match=f"a_b_{method}_0 holds one result: a curve has more"):
        load_families(folder)


def test_a_metric_that_is_missing_or_not_finite_is_refused(folder):
    with pytest.raises(UserError, match="a_b_small_0 has no finite rmse: it holds mIoU"):
        load_families(folder, "rmse")
    report(result(0, G, float("nan")), images=4).save(folder / "a_b_small_0.json")
    with pytest.raises(UserError, match="a_b_small_0 has no finite mIoU"):
        load_families(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no reports"):
        load_families(tmp_path)


def test_families_are_in_the_order_of_their_names(folder):
    for path in [*folder.iterdir()]:
        (folder / path.name.replace("a_b_", "a_b-c_")).write_bytes(path.read_bytes())
    assert [family.name for family in load_families(folder)] == ["a_b", "a_b-c"]


def test_anchors_alone_that_were_trained_in_another_way(folder):
    before = load_families(folder)[0]
    for size in ("small", "large"):
        for path in [*folder.glob(f"a_b_{size}_*.json")]:
            (folder / path.name.replace(size, f"{size}-half")).write_bytes(path.read_bytes())
    (family,) = load_families(folder)
    assert family.anchors_alone == ["small", "large", "small-half", "large-half"]
    assert family.curves == before.curves
    assert (family.budgets, family.line()) == (before.budgets, before.line())
    assert "| small anchor alone, half |" in methods_markdown(family)


def test_spread_has_as_many_decimals_as_the_mean():
    assert str(Spread((25.5, 26.0, 27.0))) == "26.17 ± 1.50"
    assert str(Spread((0.51, 0.52))) == "0.5150 ± 0.0100"
    assert str(Spread((25.0,))) == "25.00"
    assert str(Spread((150.0, 151.0))) == "150.5 ± 1.0"


DOCS = Path(__file__).parents[2] / "docs"
# Pages that quote figures of docs/results/frontier, and how their rows begin: README has means over
# seeds, the others have seed 0.
QUOTED = [
    ("snnet.md", "[SN-Net](../configs", "deit-ti-6-12_snnet-windows"),
    ("snnet.md", "[parts]", "deit-ti-6-12_parts"),
    ("neighbors.md", "label-assisted: teacher and student", "deit-ti-6-12_label-assisted"),
    ("neighbors.md", "Learngene Pool |", "deit-ti-6-12_learngene-pool"),
    ("neighbors.md", "parts |", "deit-ti-6-12_parts"),
    ("../README.md", "SN-Netv2 |", "deit-ti-6-12-layerwise_snnetv2"),
    ("../README.md", "elastic depth, without", "deit-ti-6-12-layerwise_elastic"),
    ("../README.md", "mmsn: `stitches", "deit-ti-6-12-layerwise_ours"),
    ("../README.md", "SN-Netv2, one seed", "deit-ti-6-12-twice_snnetv2"),
    ("../README.md", "elastic depth, one seed", "deit-ti-6-12-twice_elastic"),
    ("../README.md", "mmsn |", "deit-ti-6-12-twice_ours"),
]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("each anchor alone | 62 T", "deit-ti-6-12-layerwise"),
        ("each anchor alone, two seeds | 124 T", "deit-ti-6-12-twice"),
    ],
)
def test_readme_quotes_the_anchors_alone(start, name):
    families = {family.name: family for family in load_families(DOCS / "results" / "frontier")}
    lines = (DOCS / "../README.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith(f"| {start}")]
    cells = [float(cell) for cell in re.findall(r"(?<=\| )\d+\.\d(?= \|)", row)]
    means = [families[name].alone(method)[1].mean for method in ("small", "large")]
    assert cells == pytest.approx(means, abs=0.0501)


@pytest.mark.parametrize(("page", "start", "row_of"), QUOTED)
def test_pages_quote_the_reports(page, start, row_of):
    families = {family.name: family for family in load_families(DOCS / "results" / "frontier")}
    name, method = row_of.split("_")
    family = families[name]

    def quoted(figure):
        return figure.mean if "README" in page else figure.values[0]

    mean = quoted(family.mean_best(method))
    known = [quoted(found[method]) for _, found in family.groups() if method in found]
    known += [mean, family.runs[method][0].training.train_macs / 1e12]
    lines = (DOCS / page).read_text().splitlines()
    rows = [line for line in lines if line.startswith(f"| {start}")]
    assert rows
    for row in rows:
        # To one decimal; reports have two, so halves may be rounded either way.
        cells = [float(cell) for cell in re.findall(r"(?<=\| )\d+\.\d(?= \|)", row)]
        assert cells[-1] == pytest.approx(mean, abs=0.0501), row
        for cell in cells:
            assert any(cell == pytest.approx(value, abs=0.0501) for value in known), row
