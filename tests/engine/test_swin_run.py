"""Stitched Swins in whole runs: training, resuming, and the report of a benchmark."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from mmsn.evaluation import ParetoReport
from mmsn.models import segmentor_macs, segmentor_params, stitched_backbone
from tests.engine.reading import hooks, log_of
from tests.tiny import tiny_segmentor, tiny_swin_backbone, tiny_upernet


@pytest.fixture
def config(config):
    """The tests' config with three Swins under UperNet; as in SN-Net, draws are uniform."""
    config.model = tiny_segmentor(
        tiny_swin_backbone(32), tiny_upernet(12, (16, 32, 64, 128)), size=(32, 32)
    )
    config.val_cfg.stitches = [0, 8]
    config.custom_hooks = hooks(uniform=True, parts=1)
    return config


def test_a_resumed_training_ends_with_the_weights_of_an_undisturbed_one(config, run):
    whole = run()
    whole.train()
    assert "Initialized 14 stitching layers by least squares" in log_of(whole)
    assert "Sampling 11 stitches in 1 budget groups" in log_of(whole)
    half = copy.deepcopy(config)
    half.work_dir, half.experiment_name = f"{whole.work_dir}_half", f"{config.experiment_name}_half"
    half.train_cfg.max_iters = 2
    Runner.from_cfg(half).train()
    rest = copy.deepcopy(config)
    rest.work_dir, rest.experiment_name = half.work_dir, f"{config.experiment_name}_rest"
    rest.resume = True
    resumed = Runner.from_cfg(rest)
    resumed.train()
    assert resumed.iter == 4
    assert "stitching layers by least squares" not in log_of(resumed)
    found = resumed.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(found[name], value), name
    assert found["backbone.norms.3.bias"].abs().max() > 0  # trained, from 0
    assert stitched_backbone(resumed.model).stitch.id == 2


def test_a_benchmark_reports_every_stitch_as_it_is_alone(run):
    trained = run()
    trained.train()
    file = str(Path(trained.work_dir) / "iter_4.pth")
    tester = run(load_from=file)
    tester.test()
    report = ParetoReport.load(Path(tester.work_dir) / "pareto.json")
    assert [result.id for result in report.stitches] == list(range(11))
    macs = segmentor_macs(tester.model, (32, 32))
    params = segmentor_params(tester.model)
    for result in report.stitches:
        assert (result.macs, result.params) == (macs[result.id], params[result.id])
    for stitch in (0, 6, 10):
        alone = run(load_from=file, test_cfg=dict(type="TestLoop", _delete_=True))
        alone.load_or_resume()
        stitched_backbone(alone.model).set_stitch(stitch)
        assert alone.test()["mIoU"] == pytest.approx(report.stitches[stitch].metrics["mIoU"])
    assert torch.isfinite(torch.tensor([r.metrics["mIoU"] for r in report.stitches])).all()
