"""The stitches that training draws."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmsn.engine import FLOPsConstrainedSamplingHook
from mmsn.errors import UserError
from mmsn.models import segmentor_macs, stitched_backbone
from mmsn.stitching import draw, draw_parts
from tests.engine.reading import groups_of, hooks, layer_weights, log_of, watch


@pytest.mark.parametrize(("parts", "batch", "drawn_parts"), [(4, 5, 4), (4, 3, 3), (3, 3, 3)])
def test_a_batch_trains_several_stitches_as_many_as_it_has_images(run, parts, batch, drawn_parts):
    changes = {"train_dataloader.batch_size": batch, "val_cfg.stitches": [1]}
    runner = run(custom_hooks=hooks(parts=parts, seed=7), **changes)
    seen = watch(runner)
    runner.train()
    groups, macs = groups_of(runner), segmentor_macs(runner.model, (32, 32))
    assert seen == [draw_parts(groups, 7, i, drawn_parts) for i in range(4)]
    assert {0, 1} < {i for drawn in seen for i in drawn}
    log = log_of(runner)
    assert not re.search(r"Iter\(train\).* stitch: ", log)  # there is no one stitch to name
    logged = [float(x) for x in re.findall(r"Iter\(train\).* gflops: ([\d.]+)", log)]
    means = [sum(macs[i] for i in drawn) / len(drawn) / 1e9 for drawn in seen]
    assert logged == [pytest.approx(mean, abs=1e-4) for mean in means]


@pytest.mark.parametrize("parts", [1, 4])
def test_a_resumed_run_draws_what_an_undisturbed_one_would(run, parts):
    changes = {"custom_hooks": hooks(parts=parts), "train_dataloader.batch_size": 4}
    whole = run(**changes)
    stitches = [watch(whole)]
    whole.train()
    first = run(**changes, **{"train_cfg.max_iters": 2})
    stitches.append(watch(first))
    first.train()
    file = str(Path(first.work_dir) / "iter_2.pth")
    resumed = run(resume=True, load_from=file, **changes)
    stitches.append(watch(resumed))
    resumed.train()
    assert [len(drawn) for drawn in stitches[0]] == [parts] * 4
    assert stitches[1] + stitches[2] == stitches[0]
    assert "Initialized" not in log_of(resumed)
    weights = layer_weights(first)
    assert all(torch.equal(w, weights[name]) for name, w in layer_weights(resumed).items())


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_iteration_that_breaks_off_leaves_the_users_stitch(run, error, parts):
    runner = run(custom_hooks=hooks(parts=parts))
    backbone, drawn = stitched_backbone(runner.model), []
    backbone.set_stitch(2)

    def break_off(module, _):
        ids = {stitch.id for stitch in module.training_stitches}
        if module.training and ids != {2}:
            drawn.append(ids)
            raise error

    backbone.register_forward_pre_hook(break_off)
    with pytest.raises(error):
        runner.train()
    assert drawn
    assert backbone.eval().stitch.id == 2
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        evaluated = backbone(images)
        with backbone.use_stitch(2):
            assert all(map(torch.equal, evaluated, backbone(images)))


def test_sampling_may_be_narrowed(run):
    hook = hooks(stitches=["anchors"], step=0.0, parts=1)[1]
    runner = run(custom_hooks=[hook], **{"train_cfg.max_iters": 6})
    runner.train()
    drawn = re.findall(r"stitch: (\d+)  gflops", log_of(runner))
    assert len(drawn) == 6
    assert set(drawn) <= {"0", "1"}
    assert "3 stitching layers are random" in log_of(runner)


def test_uniform_draws_are_of_one_group_and_can_be_written_to_a_file(run, tmp_path):
    runner = run(custom_hooks=hooks(uniform=True, parts=1), **{"train_cfg.max_iters": 0})
    next(h for h in runner.hooks if hasattr(h, "uniform")).before_train(runner)
    (group,) = groups_of(runner)
    assert sorted(group) == [0, 1, 2, 4]
    drawn = Counter(draw((group,), 0, i) for i in range(4000))
    assert all(abs(count - 1000) < 100 for count in drawn.values())  # 3.7 standard deviations
    runner.cfg.dump(tmp_path / "config.py")
    assert Config.fromfile(tmp_path / "config.py").custom_hooks == runner.cfg.custom_hooks


@pytest.mark.parametrize("options", [dict(step=float("inf")), dict(step=1.0, uniform=True)])
def test_a_step_that_means_uniform_draws_is_refused(options):
    with pytest.raises(UserError, match="give a finite step, or uniform=True alone"):
        FLOPsConstrainedSamplingHook(**options)
