"""Rows of benchmark_speed.py about training: steps, memory, and what a draw leaves unused."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from _speed import interleave, machine, table
from _speed_model import Setting, report


def training(args: argparse.Namespace) -> None:
    """One step with a stitch for each part of the batch, against one pass per stitch."""
    from mmsn.errors import UserError

    at = Setting(args)
    ids = at.ids(at.spread(min(4, args.batch_size)))
    if not 1 < len(ids) <= args.batch_size:
        raise UserError(
            f"{len(ids)} stitches in a batch of {args.batch_size} is not allowed: give a "
            "--batch-size of 2 or more, and at most as many stitches in --stitch"
        )
    samples = at.samples(args.batch_size)
    at.model.train()

    def separate() -> None:
        start = 0
        for stitch, part in zip(ids, at.image.tensor_split(len(ids)), strict=True):
            stop = start + len(part)
            with at.backbone.use_stitch(stitch):
                loss = at.loss(part, samples[start:stop])
            (loss * (len(part) / args.batch_size)).backward()
            start = stop
        at.model.zero_grad()

    def together() -> None:
        at.backbone.set_training_stitches(ids)
        at.loss(at.image, samples).backward()
        at.model.zero_grad()

    print(f"{at.header()}: stitches {', '.join(map(str, ids))}; without an optimizer")
    at.compare({"a pass per stitch": separate, "one step": together})


def checkpointing(args: argparse.Namespace) -> None:
    """A training step that keeps activations, and one that recomputes blocks."""
    at = Setting(args)
    samples = at.samples(args.batch_size)
    at.model.train()
    print(f"{at.header()}, without an optimizer")
    for stitch in at.ids(at.backbone.space.ids[: len(at.backbone.anchors)]):

        def step(with_cp: bool, stitch: int = stitch) -> None:
            for anchor in at.backbone.anchors:
                anchor.with_cp = with_cp
            with at.backbone.use_stitch(stitch):
                at.loss(at.image, samples).backward()
            at.model.zero_grad()

        print(f"\nstitch {stitch}")
        at.compare({"recompute": lambda: step(True), "keep": lambda: step(False)})
        sums = []
        for with_cp in (True, False):
            with kept(at.model) as storages:
                step(with_cp)
            sums.append(sum(storages.values()) / 1e6)
        print(f"activations: {sums[0]:.3f} MB recomputed, {sums[1]:.3f} MB kept")


@contextmanager
def kept(model: Any) -> Iterator[dict[int, int]]:
    """Bytes of storages that autograd keeps for the backward pass, without those of parameters."""
    import torch

    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


def memory(args: argparse.Namespace) -> None:
    """What a training step holds, by stitch and batch: activations, gradients, AdamW's moments."""
    import torch

    at = Setting(args)
    at.model.train()
    cuda = str(at.device).startswith("cuda")
    total = sum(p.nbytes for p in at.model.parameters() if p.requires_grad) / 1e6
    rows = []
    for stitch in at.ids(at.backbone.space.ids[: len(at.backbone.anchors)]):
        # Batch norm after pooling to one pixel needs two images in training mode.
        for batch in sorted({min(2, args.batch_size), args.batch_size}):
            samples = at.samples(batch)
            if cuda:
                torch.cuda.reset_peak_memory_stats(at.device)
            with at.backbone.use_stitch(stitch), kept(at.model) as storages:
                loss = at.loss(at.image[:batch], samples)
            activations = sum(storages.values()) / 1e6
            loss.backward()
            used = sum(p.grad.nbytes for p in at.model.parameters() if p.grad is not None) / 1e6
            at.model.zero_grad()
            peak = f"{torch.cuda.max_memory_allocated(at.device) / 1e6:.0f}" if cuda else "-"
            columns = [f"{activations:.3f}", f"{used:.3f}", peak]
            rows.append([str(stitch), str(batch), *columns])
    print(f"{at.header()}; parameters that are trained {total:.3f} MB")
    titles = ["stitch", "batch", "activations, MB", "gradients, MB", "peak on the GPU, MB"]
    print(table(titles, rows))
    print(f"AdamW keeps {2 * total:.3f} MB of moments once every part was drawn")


def frozen(args: argparse.Namespace) -> None:
    """A training step of AdamW with frozen anchors, against one that trains everything."""
    import torch

    from mmsn.models.tracing import LiveBytes

    ways = {
        "frozen": Setting(args, freeze_anchors=True),
        "full": Setting(args, freeze_anchors=False),
    }
    at = ways["frozen"]
    samples = at.samples(args.batch_size)
    optimizers = {}
    print(f"{at.header()}, with AdamW")
    for name, way in ways.items():
        way.model.train()
        trained = [p for p in way.model.parameters() if p.requires_grad]
        optimizers[name] = torch.optim.AdamW(trained, lr=1e-9)
        print(f"{name}: {sum(p.numel() for p in trained):,} trained parameters")
    anchors = at.backbone.space.ids[: len(at.backbone.anchors)]
    kinds = {s.kind: s.id for s in at.backbone.space if s.id not in anchors}
    for stitch in at.ids((*anchors, *kinds.values())):

        def backward(name: str, stitch: int = stitch) -> None:
            with ways[name].backbone.use_stitch(stitch):
                ways[name].loss(at.image, samples).backward()

        def step(name: str) -> None:
            backward(name)
            optimizers[name].step()
            optimizers[name].zero_grad()

        print(f"\nstitch {stitch} ({at.backbone.space[stitch].kind})")
        at.compare({name: partial(step, name) for name in ways})
        peaks = {}
        for name in ways:
            with LiveBytes() as live:
                live.add(at.image)
                backward(name)
            optimizers[name].zero_grad()
            peaks[name] = live.peak / 1e6
        print(
            f"peak of activations and gradients: {peaks['frozen']:.1f} MB frozen, "
            f"{peaks['full']:.1f} MB full, ratio {peaks['frozen'] / peaks['full']:.2f}"
        )


def unused(args: argparse.Namespace) -> None:
    """AdamW's step with gradients of the drawn stitch only, against zeros for all other parts."""
    import torch

    at = Setting(args)
    at.model.train()
    samples = at.samples(args.batch_size)
    parameters = [p for p in at.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-9)
    for parameter in parameters:  # moments of all parts exist, as after some hundred draws
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = sum(v.nbytes for state in optimizer.state.values() for v in state.values())
    total = sum(p.nbytes for p in parameters)
    print(f"{at.header()}: parameters {total / 1e6:.3f} MB, AdamW's state {moments / 1e6:.3f} MB")
    for stitch in at.ids(at.spread(3)):
        optimizer.zero_grad()
        with at.backbone.use_stitch(stitch):
            at.loss(at.image, samples).backward()
        drawn = [p for p in parameters if p.grad is not None]
        rest = [p for p in parameters if p.grad is None]
        used = sum(p.nbytes for p in drawn)

        def step(fill: bool, rest: list[Any] = rest) -> None:
            for parameter in rest:
                parameter.grad = torch.zeros_like(parameter) if fill else None
            optimizer.step()

        print(f"\nstitch {stitch}: gradients of {used / 1e6:.3f} MB, {used / total:.1%} of all")
        at.compare({"zeros for the rest": lambda: step(True), "none": lambda: step(False)})


def least_squares(args: argparse.Namespace) -> None:
    """Widths 384 to 1024, as between DeiT3-S and DeiT3-L."""
    import torch

    from mmsn.stitching.least_squares import GramAccumulator

    device = args.device
    x = torch.randn(args.tokens, 384, device=device)
    y = x @ torch.randn(384, 1024, device=device) + torch.randn(args.tokens, 1024, device=device)

    def streaming() -> Any:
        sums = GramAccumulator(384, 1024)
        for a, b in zip(x.split(1024), y.split(1024), strict=True):
            sums.update(a, b)
        return sums.solve().weight

    def pinv() -> Any:
        z = torch.cat([x, x.new_ones(len(x), 1)], dim=1).double()
        return (torch.linalg.pinv(z) @ y.double())[:-1].T

    print(f"{args.tokens} tokens, 384 to 1024, {machine(device)}, {args.rounds} rounds")
    report(interleave({"pinv": pinv, "streaming": streaming}, args.rounds, device))
    print(f"largest difference {(pinv() - streaming()).abs().max().item():g}")
    kept = 8 * (384 + 1024 + 1) ** 2
    tokens = 8 * args.tokens * (384 + 1024 + 1)
    print(f"kept: {kept / 1e6:.1f} MB of sums, against {tokens / 1e6:.1f} MB of tokens for pinv")
