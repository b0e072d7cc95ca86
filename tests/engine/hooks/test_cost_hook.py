"""What a training cost: counted over the draws by hand, kept by checkpoints, shown in reports."""

import json
from pathlib import Path

import pytest
import torch

from mmsn.engine.hooks.cost_hook import TRAINING_COST
from mmsn.evaluation import ParetoReport
from mmsn.models import segmentor_macs, stitched_backbone, training_macs
from mmsn.stitching import draw_parts
from tests.engine.reading import log_of

BATCH, SIZE = 5, (32, 32)


def hooks(parts=4):
    return [
        dict(type="mmsn.StitchInitHook", num_images=6),
        dict(type="mmsn.FLOPsConstrainedSamplingHook", parts=parts),
        dict(type="mmsn.TrainingCostHook"),
    ]


@pytest.fixture
def costly(run):
    """Runs that count; five images in four parts are two, one, one and one."""

    def make(parts=4, **changes):
        options = {"train_dataloader.batch_size": BATCH, "val_cfg.stitches": [1]}
        return run(custom_hooks=hooks(parts), **options | changes)

    return make


def by_hand(runner, parts, iterations):
    """Three passes of every image through its stitch: forward, and twice as much backward."""
    groups = next(hook.groups for hook in runner.hooks if hasattr(hook, "groups"))
    macs = training_macs(runner.model, SIZE)
    total = 0
    for iteration in iterations:
        drawn = draw_parts(groups, 0, iteration, parts)
        images = torch.arange(BATCH).tensor_split(parts)
        total += sum(3 * len(part) * macs[i] for part, i in zip(images, drawn, strict=True))
    return total


def meta(runner, name):
    state = torch.load(Path(runner.work_dir) / name, weights_only=True)
    return state["meta"][TRAINING_COST]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_count_is_that_of_the_draws_also_in_uneven_parts(costly, parts):
    runner = costly(parts)
    runner.train()
    expected = by_hand(runner, parts, range(4))
    assert runner.message_hub.get_info(TRAINING_COST) == dict(
        train_macs=expected, images_seen=4 * BATCH
    )
    assert meta(runner, "iter_2.pth") == dict(
        train_macs=by_hand(runner, parts, range(2)), images_seen=2 * BATCH, seed=0
    )
    file = next(Path(runner.log_dir).glob("vis_data/scalars.json"))
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [r["tmacs"] for r in records if "loss" in r][-1] == pytest.approx(expected / 1e12)


def test_without_a_sampling_hook_the_stitch_that_is_set_is_counted(run):
    runner = run(
        custom_hooks=[dict(type="mmsn.TrainingCostHook")], **{"train_dataloader.batch_size": BATCH}
    )
    stitched_backbone(runner.model).set_stitch(2)
    runner.train()
    macs = training_macs(runner.model, SIZE)[2]
    assert runner.message_hub.get_info(TRAINING_COST)["train_macs"] == 3 * 4 * BATCH * macs


def test_auxiliary_heads_and_all_levels_are_counted(run, config):
    plain = run().model
    head = dict(config.model.decode_head)
    with_auxiliary = run(
        **{
            "model.auxiliary_head": head | dict(in_index=0),
            "model.backbone.eval_levels": (1,),
        }
    ).model
    # A head of 8 channels: 3x3 convolution of 24, its batch norm, and 1x1 to 12 classes.
    tokens = 2 * 2
    of_head = tokens * 8 * (9 * 24 + 2 + 12)
    assert segmentor_macs(plain, SIZE) == training_macs(plain, SIZE)
    training, inference = training_macs(with_auxiliary, SIZE), segmentor_macs(with_auxiliary, SIZE)
    without = training_macs(plain, SIZE)
    assert {training[i] - without[i] for i in training} == {of_head}
    layer = 5 * (16 * 24 + 2 * (16 + 24))  # level 0 of the small anchor, which inference skips
    assert training[0] - inference[0] == of_head + layer
    assert training[1] - inference[1] == of_head


@pytest.mark.slow
def test_counts_continue_after_a_resume_and_reach_the_report(costly):
    whole = costly()
    whole.train()
    first = costly(**{"train_cfg.max_iters": 2})
    first.train()
    resumed = costly(resume=True, load_from=str(Path(first.work_dir) / "iter_2.pth"))
    resumed.train()
    expected = dict(train_macs=by_hand(whole, 4, range(4)), images_seen=4 * BATCH, seed=0)
    assert meta(whole, "iter_4.pth") == meta(resumed, "iter_4.pth") == expected
    tested = costly(load_from=str(Path(resumed.work_dir) / "iter_4.pth"))
    tested.test()
    report = ParetoReport.load(Path(tested.work_dir) / "pareto.json")
    assert report.training is not None
    assert report.training.model_dump() == expected


def test_a_run_resumed_without_counts_does_not_count_the_rest_alone(run, costly):
    changes = {"train_cfg.max_iters": 2, "train_dataloader.batch_size": BATCH}
    first = run(custom_hooks=hooks()[:2], **changes)
    first.train()
    resumed = costly(resume=True, load_from=str(Path(first.work_dir) / "iter_2.pth"))
    resumed.train()
    state = torch.load(Path(resumed.work_dir) / "iter_4.pth", weights_only=True)
    assert TRAINING_COST not in state["meta"]
    assert "holds no training cost, so this training is not counted" in log_of(resumed)


def test_a_resume_of_an_empty_folder_counts_from_zero(costly):
    runner = costly(resume=True, **{"train_cfg.max_iters": 1})
    runner.train()
    expected = dict(train_macs=by_hand(runner, 4, range(1)), images_seen=BATCH)
    assert runner.message_hub.get_info(TRAINING_COST) == expected


def test_a_fine_tuning_counts_from_zero(costly):
    first = costly()
    first.train()
    changes = {"train_cfg.max_iters": 2}
    second = costly(load_from=str(Path(first.work_dir) / "iter_4.pth"), **changes)
    second.train()
    expected = dict(train_macs=by_hand(second, 4, range(2)), images_seen=2 * BATCH, seed=0)
    assert meta(second, "iter_2.pth") == expected


def test_a_checkpoint_without_counts_gives_a_report_without_them(run, costly):
    runner = run()
    runner.train()
    tested = costly(load_from=str(Path(runner.work_dir) / "iter_4.pth"))
    tested.test()
    assert ParetoReport.load(Path(tested.work_dir) / "pareto.json").training is None
