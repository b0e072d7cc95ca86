"""Two processes on the CPU: they must start, draw and remain equal."""

import contextlib
import copy
import json
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from mmsn.models import stitched_backbone
from tests.engine.processes import CONTEXT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is not distributed"),
]


def _start_two(target, *args):
    method = CONTEXT.get_start_method()
    mp.start_processes(target, args=args, nprocs=2, start_method=method)


def _join(rank, port):
    """Make this process one of two, before the Runner, which would look for GPUs."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)


def _train(rank, port, file, results):
    _join(rank, port)
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


def _benchmark(rank, port, file, results, stop_at):
    _join(rank, port)
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


def _start_differently(rank, port, file, results):
    """Two ranks, of which one differs in each of several ways; every attempt must be refused."""
    _join(rank, port)
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


@pytest.fixture
def port():
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def pair_config(config):
    """The config for two processes without GPUs."""
    config.launcher = "pytorch"
    config.find_unused_parameters = True
    config.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel",
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )
    config.env_cfg = dict(dist_cfg=dict(backend="gloo"))
    return config


def test_ranks_share_the_initialization_the_draws_and_the_result(pair_config, port, tmp_path):
    file = tmp_path / "config.py"
    pair_config.dump(file)
    _start_two(_train, port, str(file), str(tmp_path))
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    (drawn, initial, final), (other_drawn, other_initial, other_final) = results
    assert drawn == other_drawn
    assert len(drawn) == 4
    assert all(initial[k].all() for k in initial if k.endswith("initialized"))
    for ours, theirs in ((initial, other_initial), (final, other_final)):
        differing = [k for k in ours if not torch.equal(ours[k], theirs[k])]
        # Statistics of batch norm belong to each rank; rank 0 saves its own.
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
    pair_config.work_dir = str(tmp_path / "pair")
    file = tmp_path / "config.py"
    pair_config.dump(file)
    calls = []
    for stop_at in (5, -1):  # in the second of the two images that each rank has
        _start_two(_benchmark, port, str(file), str(tmp_path), stop_at)
        calls.append([json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)])
        assert (tmp_path / "pair" / "pareto.json").exists() == (stop_at == -1)
    assert calls == [[5, 5], [4, 4]]  # four stitches on an image; the first image is not run again
    reports = [ParetoReport.load(tmp_path / name / "pareto.json") for name in ("alone", "pair")]
    assert reports[0].images == reports[1].images == 3
    expected, found = ({r.id: (r.metrics, r.class_iou) for r in x.stitches} for x in reports)
    assert found.keys() == expected.keys()
    for stitch in found:
        assert found[stitch][0] == expected[stitch][0]
        assert found[stitch][1] == pytest.approx(expected[stitch][1], nan_ok=True)


def test_ranks_that_were_started_differently_are_refused_on_each(pair_config, port, tmp_path):
    pair_config.custom_hooks.append(dict(type="mmsn.RankCheckHook"))
    pair_config.train_cfg.update(max_iters=1, val_interval=100)
    pair_config.val_cfg.stitches = [0]
    file = tmp_path / "config.py"
    pair_config.dump(file)
    _start_two(_start_differently, port, str(file), str(tmp_path))
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0] == said[1]
    kind = "FLOPsConstrainedSamplingHook"
    names = (f"seed of {kind}", f"budget groups of {kind}", "optim_wrapper", "batch_size")
    assert len(said[0]) == len(names) + 1
    for line, name in zip(said[0], names, strict=False):
        assert f"rank 1 was started with another {name} than rank 0" in line
        assert "\n" not in line
    assert said[0][-1] == "trained"
