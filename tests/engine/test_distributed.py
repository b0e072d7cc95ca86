"""Two processes on the CPU: they must start, draw and stay alike."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn.models import stitched_backbone


def _train(rank, port, file, results):
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
    )
    torch.set_num_threads(1)
    # Before the Runner, which would look for GPUs.
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
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


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed part")
def test_ranks_share_the_initialisation_the_draws_and_the_result(config, tmp_path):
    config.launcher = "pytorch"
    config.find_unused_parameters = True
    config.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel",
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )
    config.env_cfg = dict(dist_cfg=dict(backend="gloo"))
    file = tmp_path / "config.py"
    config.dump(file)
    port = 20000 + os.getpid() % 20000
    mp.spawn(_train, args=(port, str(file), str(tmp_path)), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    (drawn, initial, final), (other_drawn, other_initial, other_final) = results
    assert drawn == other_drawn
    assert len(drawn) == 4
    assert all(initial[k].all() for k in initial if k.endswith("initialised"))
    for ours, theirs in ((initial, other_initial), (final, other_final)):
        differing = [k for k in ours if not torch.equal(ours[k], theirs[k])]
        # Statistics of batch norm belong to each rank; rank 0 saves its own.
        assert all("running_" in k for k in differing), differing
