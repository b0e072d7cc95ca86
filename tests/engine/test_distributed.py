"""Two and four processes on the CPU: they must start, draw, remain equal and end alike."""

import contextlib
import copy
import json
import os
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from mmsn.models import stitched_backbone
from tests.engine.processes import join, start
from tests.tiny import tiny_backbone, tiny_head, tiny_segmentor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is not distributed"),
]


def _train(rank, ranks, port, file, results):
    join(rank, ranks, port)
    runner = Runner.from_cfg(Config.fromfile(file))
    drawn, initial = [], {}
    call_hook = runner.call_hook

    def watch(name, **kwargs):
        if name == "before_train":  # as if every rank had weights of its own
            for layer in stitched_backbone(runner.model).stitching_layers.values():
                torch.nn.init.normal_(layer.weight)
        call_hook(name, **kwargs)
        if name == "before_train":
            layers = stitched_backbone(runner.model).stitching_layers.state_dict()
            initial.update({k: v.clone() for k, v in layers.items()})
        if name == "before_train_iter":
            drawn.append(stitched_backbone(runner.model).stitch.id)

    runner.call_hook = watch
    runner.train()
    torch.save((drawn, initial, runner.model.module.state_dict()), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _benchmark(rank, ranks, port, file, results, stop_at):
    join(rank, ranks, port)
    runner = Runner.from_cfg(Config.fromfile(file))
    step, calls = runner.model.module.test_step, []

    def count(data):
        calls.append(1)
        if len(calls) == stop_at:  # both ranks, as when a job is canceled
            raise KeyboardInterrupt
        return step(data)

    runner.model.module.test_step = runner.model.test_step = count
    with contextlib.suppress(KeyboardInterrupt):
        runner.test()
    Path(results, f"{rank}.json").write_text(json.dumps(len(calls)))
    torch.distributed.destroy_process_group()


def _start_differently(rank, ranks, port, file, results):
    """Two ranks, of which one differs in each of several ways; every attempt must be refused."""
    join(rank, ranks, port)
    same = Config.fromfile(file)
    differences = [
        lambda cfg: cfg.custom_hooks[1].update(seed=5),
        lambda cfg: cfg.custom_hooks[1].update(step=0.001),
        lambda cfg: cfg.optim_wrapper.optimizer.update(lr=0.5),
        lambda cfg: cfg.train_dataloader.update(batch_size=1),
        lambda cfg: None,
    ]
    said = []
    for number, change in enumerate(differences):
        cfg = copy.deepcopy(same)
        cfg.experiment_name = f"difference{number}"
        if rank == 1:
            change(cfg)
        try:
            Runner.from_cfg(cfg).train()
            said.append("trained")
        except UserError as error:
            said.append(str(error))
    Path(results, f"{rank}.json").write_text(json.dumps(said))
    torch.distributed.destroy_process_group()


def _compare_gradients(rank, ranks, port, results):
    """Of all stitches, over all ranks, with those of one process on the joined batch."""
    join(rank, ranks, port)
    config, size = _without_norm(), 2 * ranks
    torch.manual_seed(1)
    images, labels = torch.randn(size, 3, 32, 32), torch.randint(12, (size, 1, 32, 32))
    meta = dict(img_shape=(32, 32), ori_shape=(32, 32), pad_shape=(32, 32))
    samples = [SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=label)) for label in labels]
    alone, parallel, sharded = (_built(config) for _ in range(3))
    mine = slice(2 * rank, 2 * rank + 2)
    ddp = MMDistributedDataParallel(parallel, broadcast_buffers=False, find_unused_parameters=True)
    mesh = init_device_mesh("cpu", (ranks,))
    for anchor in sharded.backbone.anchors:
        for block in anchor.vit.blocks:
            fsdp.fully_shard(block, mesh=mesh)
    fsdp.fully_shard(sharded, mesh=mesh)

    def gradients(model, module, chosen, stitch):
        model.zero_grad()
        with module.backbone.use_stitch(stitch):
            losses = model(images[chosen], samples[chosen], mode="loss")
        losses["decode.loss_ce"].backward()
        found = {k: p.grad for k, p in module.named_parameters() if p.grad is not None}
        return {k: getattr(g, "full_tensor", lambda g=g: g)() for k, g in found.items()}

    counts = {}
    for stitch in alone.backbone.space.ids:
        expected = gradients(alone, alone, slice(None), stitch)
        for model, module in ((ddp, parallel), (sharded, sharded)):
            found = gradients(model, module, mine, stitch)
            assert found.keys() == expected.keys()  # what is not drawn has none
            for name, gradient in found.items():
                torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
        counts[stitch] = len(expected)
    Path(results, f"{rank}.json").write_text(json.dumps(counts))
    torch.distributed.destroy_process_group()


def _without_norm():
    """Batch norm sees the images of its own rank only, so its gradients would differ."""
    head = dict(tiny_head(12), norm_cfg=None, dropout_ratio=0)
    return tiny_segmentor(tiny_backbone((2, 4), (1, 3)), head)


def _built(config):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(config)).train()


def _lose_a_rank(rank, ranks, port, file, results):
    """Rank 1 dies in its second iteration; what rank 0 says of it is kept."""
    join(rank, ranks, port)
    runner = Runner.from_cfg(Config.fromfile(file))
    call_hook = runner.call_hook

    def die(name, **kwargs):
        if rank == 1 and name == "before_train_iter" and runner.iter == 1:
            os._exit(0)
        call_hook(name, **kwargs)

    runner.call_hook = die
    begin = time.monotonic()
    try:
        runner.train()
        said = "trained"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    Path(results, "said.json").write_text(json.dumps([said, time.monotonic() - begin]))
    os._exit(0)  # the group has lost a member and cannot be left in order


def test_ranks_share_the_initialization_the_draws_and_the_result(pair_config, port, tmp_path):
    file = tmp_path / "config.py"
    pair_config.dump(file)
    start(4, _train, port, str(file), str(tmp_path))
    first, *others = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(4)]
    drawn, initial, final = first
    assert len(drawn) == 4
    assert all(initial[k].all() for k in initial if k.endswith("initialized"))
    for other_drawn, other_initial, other_final in others:
        assert drawn == other_drawn
        for ours, theirs in ((initial, other_initial), (final, other_final)):
            differing = [k for k in ours if not torch.equal(ours[k], theirs[k])]
            # Without a GPU there is no SyncBN, and statistics of batch norm belong to each rank;
            # rank 0 saves its own.
            assert all("running_" in k for k in differing), differing


def test_ranks_share_the_images_of_a_benchmark_and_continue_it(pair_config, port, tmp_path):
    """Two ranks that were stopped and continue end with the figures of one process."""
    alone = copy.deepcopy(pair_config)
    alone.merge_from_dict(dict(launcher="none", work_dir=str(tmp_path / "alone")))
    for name in ("model_wrapper_cfg", "env_cfg"):
        alone.pop(name)
    torch.manual_seed(3)
    runner = Runner.from_cfg(alone)
    weights = tmp_path / "weights.pth"
    torch.save(runner.model.state_dict(), weights)
    alone.load_from = pair_config.load_from = str(weights)
    alone.experiment_name = "again"
    Runner.from_cfg(alone).test()

    pair_config.test_dataloader.batch_size = pair_config.test_cfg.chunk = 1
    pair_config.merge_from_dict(dict(work_dir=str(tmp_path / "pair"), experiment_name="pair"))
    file = tmp_path / "config.py"
    pair_config.dump(file)
    pair_config.merge_from_dict(dict(work_dir=str(tmp_path / "four"), experiment_name="four"))
    pair_config.dump(tmp_path / "four.py")
    # More ranks than images: the one that is evaluated twice counts once.
    start(4, _benchmark, port, str(tmp_path / "four.py"), str(tmp_path), -1)
    calls = []
    for stop_at in (5, -1):  # in the second of the two images that each rank has
        start(2, _benchmark, port, str(file), str(tmp_path), stop_at)
        calls.append([json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)])
        assert (tmp_path / "pair" / "pareto.json").exists() == (stop_at == -1)
    assert calls == [[5, 5], [4, 4]]  # four stitches on an image; the first image is not run again
    names = ("alone", "pair", "four")
    reports = [ParetoReport.load(tmp_path / name / "pareto.json") for name in names]
    assert [report.images for report in reports] == [3, 3, 3]
    expected, *others = ({r.id: (r.metrics, r.class_iou) for r in x.stitches} for x in reports)
    for found in others:
        assert found.keys() == expected.keys()
        for stitch in found:
            assert found[stitch][0] == expected[stitch][0]
            assert found[stitch][1] == pytest.approx(expected[stitch][1], nan_ok=True)


@pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="torch before 2.6 has no FSDP2")
def test_gradients_are_those_of_the_joined_batch(port, tmp_path):
    """By DistributedDataParallel, and by torch's FSDP2, which mmengine does not offer."""
    start(2, _compare_gradients, port, str(tmp_path))
    counts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert counts[0] == counts[1]
    assert len(counts[0]) == 4
    assert len(set(counts[0].values())) > 1  # stitches use different parameters


def test_a_rank_that_dies_ends_the_other_with_a_message(pair_config, port, tmp_path):
    pair_config.train_cfg.update(max_iters=50, val_interval=100)
    file = tmp_path / "config.py"
    pair_config.dump(file)
    start(2, _lose_a_rank, port, str(file), str(tmp_path))
    said, seconds = json.loads((tmp_path / "said.json").read_text())
    assert "Connection closed by peer" in said or "Connection reset by peer" in said
    assert seconds < 60


def test_ranks_that_were_started_differently_are_refused_on_each(pair_config, port, tmp_path):
    pair_config.custom_hooks.append(dict(type="mmsn.RankCheckHook"))
    pair_config.train_cfg.update(max_iters=1, val_interval=100)
    pair_config.val_cfg.stitches = [0]
    file = tmp_path / "config.py"
    pair_config.dump(file)
    start(2, _start_differently, port, str(file), str(tmp_path))
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0] == said[1]
    kind = "FLOPsConstrainedSamplingHook"
    names = (f"seed of {kind}", f"budget groups of {kind}", "optim_wrapper", "batch_size")
    assert len(said[0]) == len(names) + 1
    for line, name in zip(said[0], names, strict=False):
        assert f"rank 1 was started with another {name} than rank 0" in line
        assert "\n" not in line
    assert said[0][-1] == "trained"
