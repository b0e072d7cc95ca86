"""The guard against NaN on two ranks, of which one sees the bad image: both must do the same."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn.errors import UserError
from tests.engine.processes import join, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is not distributed"),
]
BAD = 2  # the iteration in which rank 1 has a bad image or loss


def _train(rank, ranks, port, folder):
    """One training for each case; what each rank said, and its weights before each iteration."""
    join(rank, ranks, port)
    said = {}
    for action in ("stop", "skip"):
        for kind in ("image", "constant"):
            if (action, kind) == ("stop", "constant"):
                continue
            config = Config.fromfile(f"{folder}/config.py")
            config.experiment_name = f"{action} {kind}"
            config.work_dir = f"{folder}/{action}-{kind}"  # logs of one second share a file
            config.custom_hooks[-1].action = action
            runner = Runner.from_cfg(config)
            states = _spoil(runner, kind if rank == 1 else None)
            try:
                runner.train()
                states.append(_weights(runner))
                torch.save(states, f"{folder}/{action}-{kind}-{rank}.pt")
                log = next(Path(runner.log_dir).glob("*.log"))
                said[f"{action} {kind}"] = log.read_text() if rank == 0 else ""
            except UserError as error:
                said[f"{action} {kind}"] = str(error)
                torch.save([states[-1], _weights(runner)], f"{folder}/{action}-{kind}-{rank}.pt")
    Path(folder, f"{rank}.json").write_text(json.dumps(said))
    torch.distributed.destroy_process_group()


def _weights(runner):
    return {name: p.detach().clone() for name, p in runner.model.module.named_parameters()}


def _spoil(runner, kind):
    """Make one image or loss of this rank NaN; a list that receives the weights."""
    model, states = runner.model.module, []
    forward, loss = model.data_preprocessor.forward, model.loss

    def prepare(data, training=False):
        data = forward(data, training)
        if training:
            states.append(_weights(runner))
            if kind == "image" and len(states) == BAD:
                data["inputs"][0, 0, 0, 0] = math.nan
        return data

    def with_constant(inputs, samples):
        losses = loss(inputs, samples)
        if kind == "constant" and len(states) == BAD:
            losses["constant.loss"] = torch.tensor(math.nan)  # no gradient tells of it
        return losses

    model.data_preprocessor.forward, model.loss = prepare, with_constant
    return states


def test_all_ranks_stop_or_skip_together(pair_config, port, tmp_path):
    pair_config.custom_hooks.append(dict(type="mmsn.FiniteHook"))
    pair_config.train_cfg.update(val_interval=100)
    pair_config.val_cfg.stitches = [0]
    pair_config.dump(tmp_path / "config.py")
    start(2, _train, port, str(tmp_path))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    # Gradients are those of both ranks; the images are named by the rank that has them.
    assert first["stop image"].startswith(f"iteration {BAD}, rank 0: the gradient of ")
    assert second["stop image"].startswith(f"iteration {BAD}, rank 1: loss decode.loss_ce is NaN")
    for case in ("skip-image", "skip-constant"):
        ours, theirs = (
            torch.load(tmp_path / f"{case}-{rank}.pt", weights_only=True) for rank in (0, 1)
        )
        ours = ours[-5:]  # before them, rank 0 has solved the stitching layers
        assert len(ours) == len(theirs) == 5
        for mine, other in zip(ours, theirs, strict=True):
            assert all(torch.equal(mine[name], other[name]) for name in mine)
        moved = [any(not torch.equal(a[k], b[k]) for k in a) for a, b in pairwise(ours)]
        assert moved == [True, False, True, True]
        assert first[case.replace("-", " ")].count("this step is skipped") == 1
    assert "rank 0: a loss of another rank is NaN" in first["skip constant"]
    for rank in (0, 1):
        before, after = torch.load(tmp_path / f"stop-image-{rank}.pt", weights_only=True)
        assert all(torch.equal(before[name], after[name]) for name in before)
