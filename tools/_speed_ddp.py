"""Row of benchmark_speed.py about distributed training: gradients of the drawn stitch alone.

``DistributedDataParallel`` reduces every parameter in every step. It needs to be set to look for
parameters without a gradient, and sends zeros for them. All ranks draw the same stitches, so they
could agree without looking: here gradients are reduced by hand, after a backward pass without
communication.
"""

from __future__ import annotations

import argparse
import os
import socket
from typing import Any

from _speed import interleave
from _speed_model import Setting, report

PROCESSES = 2


def ddp(args: argparse.Namespace) -> None:
    """Both ways on two processes of this machine, by gloo on a CPU."""
    import torch.multiprocessing as mp

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = mp.get_context("spawn").Process(target=_process, args=(1, port, args))
    other.start()
    _process(0, port, args)
    other.join()


def _process(rank: int, port: int, args: argparse.Namespace) -> None:
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    args.device = torch.device("cpu")
    distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    # Two models: a reducer also counts what its parameters receive outside of its own forward.
    at, other = _training_model(args), _training_model(args)
    torch.manual_seed(1 + rank)
    image, samples = torch.randn(at.image.shape), at.samples(args.batch_size)

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = at.model

        def forward(self) -> Any:
            return at.loss(image, samples)

    looking = DistributedDataParallel(Loss(), find_unused_parameters=True)
    ids = at.ids(at.spread(3))

    def all_parameters(stitch: int) -> Setting:
        at.model.zero_grad()
        with at.backbone.use_stitch(stitch):
            looking().backward()
        return at

    def drawn_only(stitch: int) -> Setting:
        other.model.zero_grad()
        with other.backbone.use_stitch(stitch):
            other.loss(image, samples).backward()
        gradients = [p.grad for p in other.model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= PROCESSES
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return other

    difference, used = 0.0, 0
    for stitch in ids:
        found = [
            {name: p.grad for name, p in way(stitch).model.named_parameters() if p.grad is not None}
            for way in (all_parameters, drawn_only)
        ]
        assert found[0].keys() == found[1].keys(), "both ways reach the same parameters"
        for name, gradient in found[0].items():
            difference = max(difference, (gradient - found[1][name]).abs().max().item())
            used += gradient.nbytes
    ways = {
        "DDP, looking": lambda: [*map(all_parameters, ids)],
        "drawn stitch only": lambda: [*map(drawn_only, ids)],
    }
    times = interleave(ways, args.rounds)
    if rank == 0:
        total = sum(p.nbytes for p in at.model.parameters() if p.requires_grad) / 1e6
        print(f"{at.header()}, {PROCESSES} processes, gloo, stitches {ids} in turn")
        report(times)
        print(f"largest difference of a gradient: {difference:g}")
        print(f"reduced per step: {total:.3f} MB, against {used / len(ids) / 1e6:.3f} MB")
    distributed.barrier()
    distributed.destroy_process_group()


def _training_model(args: argparse.Namespace) -> Setting:
    """The same weights in every process and every call, and no random layers."""
    import torch

    torch.manual_seed(0)
    at = Setting(args)
    for module in at.model.train().modules():
        if type(module).__name__.startswith(("Drop", "SmoothDrop")):
            module.eval()
    return at
