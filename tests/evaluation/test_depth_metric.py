"""DepthMetric against NumPy and, where both are right, against mmseg's."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.evaluation import DepthMetric as MmsegDepthMetric
from mmseg.structures import SegDataSample

from mmsn.engine.chunks import ChunkStore
from mmsn.errors import UserError
from mmsn.evaluation import (
    DEPTH_METRICS,
    LOWER_IS_BETTER,
    DepthMetric,
    ParetoReport,
    depth_errors,
    frontier,
)


def reference(p, g):
    """The nine figures of one image, pixel by pixel and from the formulas as published."""
    n = len(g)
    logs = [math.log(a) - math.log(b) for a, b in zip(p, g, strict=True)]
    ratios = [max(a / b, b / a) for a, b in zip(p, g, strict=True)]
    return dict(
        d1=sum(r < 1.25 for r in ratios) / n,
        d2=sum(r < 1.5625 for r in ratios) / n,
        d3=sum(r < 1.953125 for r in ratios) / n,
        abs_rel=sum(abs(a - b) / b for a, b in zip(p, g, strict=True)) / n,
        sq_rel=sum((a - b) ** 2 / b for a, b in zip(p, g, strict=True)) / n,
        rmse=math.sqrt(sum((a - b) ** 2 for a, b in zip(p, g, strict=True)) / n),
        rmse_log=math.sqrt(sum(d * d for d in logs) / n),
        log10=sum(abs(math.log10(a) - math.log10(b)) for a, b in zip(p, g, strict=True)) / n,
        # Eigen's scale-invariant error as a mean over all pairs of pixels, not as a variance
        silog=100 * math.sqrt(sum((d - e) ** 2 for d in logs for e in logs) / (2 * n * n)),
    )


def sample(prediction, truth):
    def depth(values):
        return PixelData(data=torch.as_tensor(np.asarray(values, np.float32))[None])

    return SegDataSample(
        pred_depth_map=depth(prediction),
        gt_depth_map=depth(truth),
        metainfo=dict(img_path="some.jpg"),
    )


def score(*pairs, **kwargs):
    metric = DepthMetric(**dict(eigen_crop=False) | kwargs)
    metric.process({}, [sample(*pair).to_dict() for pair in pairs])
    return metric.compute_metrics(metric.results)


depths = st.integers(2, 9999).map(lambda millimeters: millimeters / 1000)


@settings(max_examples=60)
@given(st.lists(st.tuples(depths, depths), min_size=1, max_size=20))
def test_each_figure_is_what_its_formula_says(pairs):
    p, g = map(np.array, zip(*pairs, strict=True))
    found = depth_errors(torch.from_numpy(p), torch.from_numpy(g))
    assert dict(zip(DEPTH_METRICS, found, strict=True)) == pytest.approx(
        reference(p.tolist(), g.tolist()), rel=1e-6, abs=1e-5
    )


@settings(max_examples=30)
@given(
    arrays(np.float32, (3, 4, 5), elements=st.floats(0.5, 9, width=32)),
    arrays(
        np.float32,
        (3, 4, 5),
        elements=st.one_of(
            st.floats(0.5, 9, width=32),
            st.sampled_from([0.0, -1.0, math.nan, math.inf, 10.0, 11.0]),
        ),
    ),
)
def test_images_count_alike_and_invalid_depth_never_enters(prediction, truth):
    truth[:, 0, 0] = 2.0  # at least one valid pixel
    truth[0, 1:] = 0.0  # and images with very different numbers of them
    each = []
    for p, g in zip(prediction, truth, strict=True):
        with np.errstate(invalid="ignore"):
            valid = (g > 1e-3) & (g < 10)
        each.append(reference(p[valid].tolist(), g[valid].tolist()))
    expected = {name: np.mean([e[name] for e in each]) for name in DEPTH_METRICS}
    found = score(*zip(prediction, truth, strict=True))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_rmse_is_a_mean_of_roots():
    far = np.full((2, 2), 5.0)
    assert score((far + 1, far), (far + 3, far))["rmse"] == pytest.approx(2)  # not sqrt(5)


def test_predictions_are_clamped():
    truth = np.array([[2.0, 4.0, 8.0]])
    found = score(([[-3.0, 0.0, math.inf]], truth))
    assert found == pytest.approx(score(([[1e-3, 1e-3, 10.0]], truth)))
    assert all(map(math.isfinite, found.values()))
    assert score(([[0.5, 4.0, 5.0]], truth), min_depth=2, max_depth=5) == score(
        ([[2.0, 4.0, 5.0]], [[0.0, 4.0, 0.0]]), min_depth=2, max_depth=5
    )  # 2 m and 8 m are outside of the range, so only 4 m counts


def test_a_prediction_of_nan_shows_in_all_figures():
    truth = np.full((2, 2), 2.0)
    broken = truth.copy()
    broken[0, 0] = math.nan
    with pytest.warns(UserWarning, match="prediction for 1 of 2 images is not a number"):
        found = score((truth, truth), (broken, truth))
    assert all(map(math.isnan, found.values()))
    truth[0, 0] = 0  # where there is no truth, a prediction does not matter
    assert score((broken, truth))["rmse"] == 0


def test_an_image_without_valid_depth_is_left_out_and_counted():
    truth = np.full((2, 2), 2.0)
    with pytest.warns(UserWarning, match="1 of 2 images have no valid depth"):
        assert score((truth, truth * 0), (truth + 1, truth))["rmse"] == pytest.approx(1)
    with pytest.warns(UserWarning, match="1 of 1 images"):
        assert all(map(math.isnan, score((truth, truth * 0)).values()))


def test_eigens_crop_and_other_sizes():
    truth = np.full((480, 640), 2.0)
    prediction = np.full((480, 640), 9.0)
    prediction[45:471, 41:601] = 3.0  # all that counts
    found = score((prediction, truth), eigen_crop=True)
    assert found["rmse"] == pytest.approx(1)
    for row, column in ((45, 41), (470, 600)):  # the corners belong to it
        changed = prediction.copy()
        changed[row, column] = 9.0
        assert score((changed, truth), eigen_crop=True)["rmse"] > 1
    with pytest.raises(UserError, match=r"some\.jpg: Eigen's crop .* 480x640, not 48x64; load"):
        score((prediction[:48, :64], truth[:48, :64]), eigen_crop=True)
    with pytest.raises(UserError, match=r"prediction \(480, 640\) and depth map \(48, 64\)"):
        score((prediction, truth[:48, :64]))


def test_unusable_settings_and_samples_are_named():
    with pytest.raises(UserError, match=r"min_depth, max_depth are 0, 10\.0; give 0 <"):
        DepthMetric(min_depth=0)
    lacking = sample([[1.0]], [[1.0]]).to_dict()
    del lacking["gt_depth_map"]
    with pytest.raises(UserError, match=r"some\.jpg has no depth map; add LoadDepthAnnotation"):
        DepthMetric().process({}, [lacking])


def test_where_mmsegs_metric_is_right_ours_agrees():
    rng = np.random.default_rng(0)
    pairs = [(rng.uniform(0.5, 9, (480, 640)), rng.uniform(0.5, 9, (480, 640))) for _ in range(2)]
    theirs = MmsegDepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0, crop_type="nyu_crop")
    theirs.process({}, [sample(*pair).to_dict() for pair in pairs])
    expected = theirs.compute_metrics(theirs.results)
    found = score(*pairs, eigen_crop=True)
    del expected["silog"]
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_what_our_docstring_says_of_mmsegs_metric():
    truth = np.full((2, 2), 2.0)
    broken = truth.copy()
    broken[0, 0] = math.nan
    theirs = MmsegDepthMetric(max_depth_eval=10.0)
    theirs.process({}, [sample(broken, truth).to_dict()])
    assert sum(t.numel() for t in theirs.results[0]) == 8  # every pixel, twice, is kept
    found = theirs.compute_metrics(theirs.results)
    assert found["d1"] == 0.75
    assert math.isnan(found["rmse"])
    theirs.process({}, [sample(truth, truth * 0).to_dict()])
    assert math.isnan(theirs.compute_metrics(theirs.results)["d1"])
    assert math.isinf(MmsegDepthMetric._calc_all_metrics(torch.ones(1), torch.zeros(1))["log10"])
    logs = torch.tensor([1.0, 3.0])
    silog = MmsegDepthMetric._calc_all_metrics(torch.ones(2), logs.exp())["silog"]
    assert silog == pytest.approx(math.sqrt(5 - 0.5 * 4))
    with pytest.raises(TypeError):
        MmsegDepthMetric(depth_metrics=["d1"])


def test_registered_collected_and_stored(tmp_path):
    with DefaultScope.overwrite_default_scope("mmseg"):
        evaluator = Evaluator([dict(type="mmsn.DepthMetric", eigen_crop=False, prefix="depth")])
    truth = np.full((3, 3), 2.0)
    evaluator.process([sample(truth + 1, truth), sample(truth, truth * 0)], {})
    (metric,) = evaluator.metrics
    assert len(metric.results) == 2  # one entry per image, or ranks would be out of step
    store = ChunkStore(tmp_path, {})
    store.save(0, {0: [metric.results]})
    assert store.load([0]) == [{0: [metric.results]}]
    with pytest.warns(UserWarning, match="1 of 2 images"):
        found = evaluator.evaluate(2)
    assert list(found) == [f"depth/{name}" for name in DEPTH_METRICS]
    assert found["depth/rmse"] == pytest.approx(1)


def test_the_report_knows_the_names():
    assert set(LOWER_IS_BETTER) < set(DEPTH_METRICS)
    assert set(DEPTH_METRICS) - set(LOWER_IS_BETTER) == {"d1", "d2", "d3"}


def test_the_benchmark_scores_every_stitch(depth_config, depth_checkpoint):
    """All stitches through chunks on disk, whose averages are those of a plain loop."""
    depth_config.load_from = depth_checkpoint
    runner = Runner.from_cfg(depth_config)
    with pytest.warns(UserWarning, match="1 of 3 images have no valid depth"):
        runner.test()
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    assert report.default_metric() == "rmse"
    assert [r.id for r in report.stitches] == [0, 1, 2, 4]
    best = frontier(report.stitches, "rmse")
    assert best[-1].metrics["rmse"] == min(r.metrics["rmse"] for r in report.stitches)
    model, dataset = runner.model.eval(), runner.test_dataloader.dataset
    for result in report.stitches:
        model.backbone.set_stitch(result.id)
        each = []
        for i in (0, 2):
            output = model.test_step(pseudo_collate([dataset[i]]))[0]
            p = output.pred_depth_map.data.detach().double().numpy().clip(1e-3, 10)
            g = output.gt_depth_map.data.double().numpy()
            each.append(np.sqrt(((p - g)[g > 0] ** 2).mean()))
        assert result.metrics["rmse"] == pytest.approx(np.mean(each), rel=1e-4)
