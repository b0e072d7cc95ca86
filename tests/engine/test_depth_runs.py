"""Whole runs of a depth estimator, and of segmentation and depth together."""

import copy
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn import recipe
from mmsn.evaluation import ParetoReport
from mmsn.models import segmentor_macs, segmentor_params, stitched_backbone
from tests.models.dense_models import DEPTH_MODEL, DPT, MULTI_TASK_MODEL, SEG, SIZE, build

DEPTH_KEYS = {"d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six images whose depth, in centimeters, and class follow their brightness."""
    root, random = tmp_path_factory.mktemp("nyuv2"), np.random.default_rng(0)
    for i in range(6):
        gray = np.kron(random.integers(20, 250, (4, 4)), np.ones((8, 8))).astype(np.uint8)
        mmcv.imwrite(np.stack([gray] * 3, -1), str(root / "images" / f"{i}.png"))
        mmcv.imwrite(100 + gray.astype(np.uint16), str(root / "depths" / f"{i}.png"))
        mmcv.imwrite(gray // 64, str(root / "labels" / f"{i}.png"))
    (root / "all.txt").write_text("\n".join(map(str, range(6))))
    return root


def config_of(model, data, tmp_path):
    multi = model["type"] == "mmsn.MultiTaskSegmentor"
    folders = dict(img_path="images", depth_map_path="depths")
    load = [dict(type="LoadDepthAnnotation", depth_rescale_factor=1e-2)]
    metric = dict(type="mmsn.DepthMetric", eigen_crop=False)
    if multi:
        folders["seg_map_path"] = "labels"
        load.insert(0, dict(type="LoadAnnotations"))
    evaluator = [dict(type="IoUMetric", iou_metrics=["mIoU"]), metric] if multi else metric
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(
            type="mmsn.NYUv2DepthDataset",
            data_root=str(data),
            ann_file="all.txt",
            data_prefix=folders,
            img_suffix=".png",
            reduce_zero_label=False,
            metainfo=dict(classes=("wall", "floor", "cabinet", "bed", "chair")),
            pipeline=[dict(type="LoadImageFromFile"), *load, dict(type="PackSegInputs")],
        ),
    )
    return Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            work_dir=str(tmp_path / "run"),
            experiment_name=f"{tmp_path.name}",
            model=model | dict(test_cfg=dict(mode="whole", flip=True)),
            train_dataloader=loader | dict(sampler=dict(type="InfiniteSampler", shuffle=True)),
            val_dataloader=copy.deepcopy(loader),
            test_dataloader=copy.deepcopy(loader),
            val_evaluator=evaluator,
            test_evaluator=copy.deepcopy(evaluator),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=3e-3)),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=8, val_interval=8),
            val_cfg=dict(type="mmsn.ParetoValLoop", stitches=["anchors"]),
            test_cfg=dict(type="mmsn.ParetoTestLoop", latency="frontier", chunk=2),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
                checkpoint=dict(
                    type="CheckpointHook",
                    by_epoch=False,
                    interval=4,
                    save_best="rmse",
                    rule="less",
                ),
            ),
            custom_hooks=[
                dict(type="mmsn.StitchInitHook", num_images=6),
                dict(type="mmsn.FLOPsConstrainedSamplingHook"),
            ],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", [DEPTH_MODEL, MULTI_TASK_MODEL], ids=["depth", "multi-task"])
def test_a_model_trains_validates_and_is_benchmarked(model, data, tmp_path):
    config = config_of(model, data, tmp_path)
    runner = Runner.from_cfg(config)
    runner.train()
    (log,) = Path(runner.log_dir).glob("*.log")
    assert "stitching layers by least squares" in log.read_text()
    before = torch.load(Path(runner.work_dir) / "iter_4.pth", weights_only=True)["state_dict"]
    after = runner.model.state_dict()
    heads = [name for name, _ in runner.model.named_parameters() if "_head." in name]
    assert all(torch.isfinite(v).all() for v in after.values())
    assert all(not torch.equal(before[name], after[name]) for name in heads)
    assert list(Path(runner.work_dir).glob("best_rmse_*.pth"))

    config = config_of(model, data, tmp_path)
    config.experiment_name += "_test"
    config.load_from = str(Path(runner.work_dir) / "iter_8.pth")
    tester = Runner.from_cfg(config)
    flat = tester.test()
    report = ParetoReport.load(Path(tester.work_dir) / "pareto.json")
    backbone = stitched_backbone(tester.model)
    assert [r.id for r in report.stitches] == list(backbone.space.ids)
    macs, params = (count(tester.model, (SIZE, SIZE)) for count in (segmentor_macs, _params))
    segmentation = {"aAcc", "mIoU", "mAcc"} if model is MULTI_TASK_MODEL else set()
    for result in report.stitches:
        assert set(result.metrics) == DEPTH_KEYS | segmentation
        assert (result.macs, result.params) == (macs[result.id], params[result.id])
        assert result.metrics["rmse"] == pytest.approx(flat[f"stitch{result.id}/rmse"])
    assert len({round(r.metrics["rmse"], 6) for r in report.stitches}) > 2
    default = report.default_metric()
    assert default == ("mIoU" if segmentation else "rmse")
    assert any(r.latency for r in report.stitches)

    tester.load_or_resume()
    stitch = backbone.space.ids[-1]
    with backbone.use_stitch(stitch):  # alone, sharing nothing, by hand
        errors = _rmse_by_hand(tester.model, tester.test_dataloader.dataset)
    reported = next(r.metrics["rmse"] for r in report.stitches if r.id == stitch)
    assert reported == pytest.approx(float(np.mean(errors)), rel=1e-5)


def _params(model, _):
    return segmentor_params(model)


@torch.no_grad()
def _rmse_by_hand(model, dataset):
    model.eval()
    errors = []
    for i in range(len(dataset)):
        item = dataset[i]
        batch = dict(inputs=[item["inputs"]], data_samples=[item["data_samples"]])
        (found,) = model.test_step(batch)
        error = found.pred_depth_map.data - found.gt_depth_map.data
        errors.append(error.double().square().mean().sqrt().item())
    return errors


class _Reached(Exception):
    """The stitched network is built: what the test looks at."""


def test_both_heads_of_the_stitched_network_start_from_the_last_anchors(
    data, tmp_path, monkeypatch
):
    def alone(index):
        width = (16, 24)[index]
        model = copy.deepcopy(MULTI_TASK_MODEL)
        model["backbone"] |= dict(anchors=[MULTI_TASK_MODEL["backbone"]["anchors"][index]])
        model |= dict(
            decode_head=SEG | dict(in_channels=width),
            depth_head=DPT | dict(in_channels=[width] * 4),
        )
        return recipe.Step(("small", "large")[index], config_of(model, data, tmp_path))

    states = {}

    def train_and_test(step, folder):  # its training is only what it starts from
        model = build(step.config.model)
        model.init_weights()
        states[step.name] = model.state_dict()
        if step.name == "stitched":
            raise _Reached
        folder.mkdir(parents=True)
        torch.save(dict(state_dict=states[step.name]), folder / "iter_8.pth")

    monkeypatch.setattr(recipe, "train_and_test", train_and_test)
    stitched = recipe.Step("stitched", config_of(MULTI_TASK_MODEL, data, tmp_path))
    with pytest.raises(_Reached):
        recipe.stitch_from_anchors([alone(0), alone(1)], stitched, tmp_path / "way")
    large, both = states["large"], states["stitched"]
    heads = [key for key in large if "_head." in key]
    assert len(heads) > 40
    assert all(torch.equal(large[key], both[key]) for key in heads)
