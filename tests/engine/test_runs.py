"""Whole runs of mmengine's Runner: hooks, validation, saving, resuming, testing."""

import json
import re
from pathlib import Path

import pytest
import torch

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from mmsn.models import segmentor_macs, stitched_backbone
from mmsn.stitching import draw
from tests.engine.reading import groups_of, log_of


def test_training_initializes_samples_validates_named_stitches_and_logs(trained):
    log = log_of(trained)
    assert "Initialized 3 stitching layers by least squares" in log
    groups = groups_of(trained)
    assert f"Sampling 4 stitches in {len(groups)} budget groups" in log
    backbone = stitched_backbone(trained.model)
    macs = segmentor_macs(trained.model, (32, 32))
    drawn = [draw(groups, seed=0, iteration=i) for i in range(4)]
    lines = re.findall(r"Iter\(train\).* stitch: (\d+)  gflops: ([\d.]+)", log)
    assert [int(i) for i, _ in lines] == drawn
    for stitch, gflops in lines:
        assert float(gflops) == pytest.approx(macs[int(stitch)] / 1e9, abs=1e-4)
    for stitch in (0, 1, 2):
        assert re.search(rf"Iter\(val\) .*stitch{stitch}/mIoU: [\d.]+", log)
    assert backbone.stitch.id == 1  # not a leftover of sampling


def test_every_kind_of_parameter_trains_but_w(run):
    runner = run(**{"train_cfg.max_iters": 12, "optim_wrapper.optimizer.lr": 0.1})
    before = {}
    original = runner.call_hook

    def call_hook(name, **kwargs):
        original(name, **kwargs)
        if name == "before_train":
            before.update({k: v.clone() for k, v in runner.model.state_dict().items()})

    runner.call_hook = call_hook
    runner.train()
    after = runner.model.state_dict()
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    layers = [k for k in after if "stitching_layers" in k]
    assert not any(k.endswith((".weight", ".initialized")) for k in layers if k in changed)
    assert {k.rsplit(".", 1)[1] for k in layers if k in changed} == {"lora_A", "lora_B", "bias"}
    for anchor in (0, 1):
        assert f"backbone.anchors.{anchor}.vit.blocks.0.attn.qkv.weight" in changed
        assert f"backbone.anchors.{anchor}.vit.pos_embed" in changed


def test_the_same_seed_gives_the_same_network(run):
    states = []
    for _ in range(2):
        runner = run()
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_the_test_loop_reports_what_each_stitch_reaches_alone(trained, run):
    file = str(Path(trained.work_dir) / "iter_4.pth")
    metrics = run(load_from=file)
    all_at_once = metrics.test()
    report = ParetoReport.load(Path(metrics.work_dir) / "pareto.json")
    assert [result.id for result in report.stitches] == [0, 1, 2, 4]
    macs = segmentor_macs(trained.model, (32, 32))
    for result in report.stitches:
        alone = run(load_from=file, test_cfg=dict(type="TestLoop", _delete_=True))
        alone.load_or_resume()
        stitched_backbone(alone.model).set_stitch(result.id)
        expected = alone.test()
        assert expected["mIoU"] == all_at_once[f"stitch{result.id}/mIoU"]
        assert expected == {k: pytest.approx(v) for k, v in result.metrics.items()}
        assert result.macs == macs[result.id]
    mean = sum(r.metrics["mIoU"] for r in report.stitches) / 4
    assert all_at_once["mIoU"] == pytest.approx(mean)
    assert stitched_backbone(metrics.model).stitch.id == 1


def test_a_plain_validation_loop_sees_the_users_stitch_too(run):
    runner = run(val_cfg=dict(type="ValLoop", _delete_=True))
    seen = []
    stitched_backbone(runner.model).register_forward_pre_hook(
        lambda module, _: None if module.training else seen.append(module.stitch.id)
    )
    runner.train()
    assert set(seen[seen.index(1) :]) == {1}


def test_budgets_choose_stitches_to_test(trained, run):
    macs = segmentor_macs(trained.model, (32, 32))
    budgets = [f"{macs[0] / 1e9!r}G", f"{(macs[1] - 1) / 1e9!r}G", "100%"]
    runner = run(**{"test_cfg.stitches": [], "test_cfg.budgets": budgets})
    runner.test()
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    below = max((m, -i) for i, m in macs.items() if m < macs[1])
    assert [result.id for result in report.stitches] == [0, -below[1], 1]
    runner = run(**{"test_cfg.budgets": ["1%"]})
    with pytest.raises(UserError, match="budget 1% is below the cheapest stitch"):
        runner.test()


@pytest.mark.parametrize("stitches", [[13], ["big"]])
def test_unknown_stitches_stop_the_run_before_it_evaluates(run, stitches):
    runner = run(**{"test_cfg.stitches": stitches})
    with pytest.raises(UserError, match="unknown"):
        runner.test()


def test_predictions_of_several_stitches_go_to_folders_of_their_own(trained, run, tmp_path):
    output = dict(output_dir=str(tmp_path / "out"), keep_results=True, format_only=True)
    # Two, the fewest that could overwrite each other's.
    chosen = {"test_cfg.stitches": ["anchors"]}
    weights = str(Path(trained.work_dir) / "iter_4.pth")
    runner = run(load_from=weights, test_evaluator=output, **chosen)
    runner.test()
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["stitch0", "stitch1"]
    assert all(len(list((tmp_path / "out" / f).glob("*.png"))) == 3 for f in folders)
    assert "there is no report" in log_of(runner)


def test_save_best_auto_takes_the_mean(run):
    runner = run(**{"default_hooks.checkpoint.save_best": "auto"})
    runner.train()
    assert list(Path(runner.work_dir).glob("best_aAcc_*.pth"))


def test_scalars_reach_the_json_log(trained):
    file = next(Path(trained.log_dir).glob("vis_data/scalars.json"))
    records = [json.loads(line) for line in file.read_text().splitlines()]
    macs = segmentor_macs(trained.model, (32, 32))
    steps = [record for record in records if "loss" in record]
    assert len(steps) == 4
    for record in steps:
        assert isinstance(record["stitch"], int)
        assert record["gflops"] == pytest.approx(macs[record["stitch"]] / 1e9)
