"""Rows of benchmark_speed.py about the backbone: against bare blocks and timm, shared, in bf16."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from _speed_model import Setting, maps


def _plain_anchors(args: argparse.Namespace) -> Setting:
    """The setting of a row that runs timm's plain ViTs beside the anchors."""
    at = Setting(args)
    from mmsn.errors import UserError

    names = [a.model_name for a in at.backbone.anchors if not hasattr(a.vit, "blocks")]
    if names:
        raise UserError(
            f"{args.row} compares plain ViTs, which {', '.join(names)} are not: give a config "
            "with a StitchedViT backbone"
        )
    return at


def blocks(args: argparse.Namespace) -> None:
    """A stitch against its blocks and stitching layers in a plain loop."""
    import torch

    from mmsn.errors import UserError
    from mmsn.stitching.stitch import Join, Run

    at = _plain_anchors(args)
    backbone, image = at.backbone, at.image
    print(at.header())
    for stitch in at.ids(backbone.space.ids[: len(backbone.anchors)]):
        which = backbone.space[stitch]
        route = backbone.space.route(which, backbone.out_indices, backbone.train_levels)
        layers = []
        for step in route:
            if isinstance(step, Run):
                anchor = backbone.anchor(step.anchor)
                if anchor.rel_pos is not None or getattr(anchor.vit, "rope", None) is not None:
                    raise UserError(
                        f"blocks of {anchor.model_name} read positions, so a plain loop over them "
                        "is no comparison: choose anchors without relative or rotary positions"
                    )
                layers += list(backbone.anchor(step.anchor).vit.blocks[step.start : step.stop])
            elif isinstance(step, Join):
                layers.append(backbone.layer(step.key))

        def bare(first: int = which.segments[0].anchor, layers: list[Any] = layers) -> Any:
            tokens = backbone.anchor(first).embed(image)[0]
            for layer in layers:
                tokens = layer(tokens)
            return tokens

        def whole(stitch: int = stitch) -> Any:
            with backbone.use_stitch(stitch):
                level = backbone(image)[-1]
            return level[0] if isinstance(level, tuple) else level

        def step(forward: Callable[[], Any]) -> None:
            forward().square().mean().backward()
            backbone.zero_grad()

        print(f"\nstitch {stitch}, forward")
        backbone.eval()
        with torch.inference_mode():
            at.compare({"stitch": whole, "bare blocks": bare})
        print(f"\nstitch {stitch}, training step without an optimizer")
        backbone.train()
        at.compare({"stitch": lambda: step(whole), "bare blocks": lambda: step(bare)})  # noqa: B023
    backbone.eval()


def anchors(args: argparse.Namespace) -> None:
    """Anchors against timm models with the same options and weights."""
    at = _plain_anchors(args)  # imports mmsn, which repairs what timm needs where it can
    import timm
    import torch

    print(at.header())
    for index in range(len(at.backbone.anchors)):
        anchor = at.backbone.anchor(index)
        other = timm.create_model(anchor.model_name, **anchor.timm_options).to(at.device).eval()

        def ours(anchor: Any = anchor) -> Any:
            tokens, grid = anchor.embed(at.image)
            return anchor.run(tokens, 0, anchor.depth, grid)

        def theirs(vit: Any = other) -> Any:
            return vit.forward_intermediates(
                at.image, indices=[len(vit.blocks) - 1], norm=False, intermediates_only=True
            )

        print(f"\n{anchor.model_name}, forward")
        with torch.inference_mode():
            at.compare({"anchor": ours, "timm": theirs})


def sharing(args: argparse.Namespace) -> None:
    """All stitches of the backbone, alone and shared, with the largest difference."""
    import torch

    at = Setting(args)
    backbone, image = at.backbone, at.image
    trie = backbone.trie(at.ids())
    print(f"{at.header()}: {len(trie.order)} stitches, at most {trie.kept()} states kept")
    macs = backbone.stitch_macs(at.size)
    fewer = sum(macs[stitch] for stitch in trie.order) / executed_macs(backbone, trie, at.size)
    print(f"sharing needs {fewer:.3f} times fewer multiply-accumulates")

    def alone() -> list[Any]:
        outputs = []
        for stitch in trie.order:
            with backbone.use_stitch(stitch):
                outputs.append(maps(backbone(image)))
        return outputs

    def shared() -> list[Any]:
        outputs, passes = [], backbone.share_prefixes(trie)
        for stitch in trie.order:
            with backbone.use_stitch(stitch, passes):
                outputs.append(maps(backbone(image)))
        return outputs

    with torch.inference_mode():
        at.compare({"alone": alone, "shared": shared})
        pairs = [p for a, b in zip(alone(), shared(), strict=True) for p in zip(a, b, strict=True)]
        print(f"largest difference {max((a - b).abs().max().item() for a, b in pairs):g}")


def executed_macs(backbone: Any, trie: Any, size: tuple[int, int]) -> int:
    """MACs of the backbone for all stitches of a trie, each shared step counted once."""
    from mmsn.stitching.stitch import Run
    from mmsn.stitching.trie import common_length

    costs = backbone.costs
    total, before, anchor = 0, (), -1
    for stitch in trie.order:
        route, first = trie.routes[stitch], trie.first[stitch]
        shared = common_length(before, route) if first == anchor else 0
        if first != anchor:
            total += costs.anchors[first].embed_macs(size)
        for step in route[shared:]:
            if isinstance(step, Run):
                total += costs.anchors[step.anchor].block_macs(step.start, size)
        # Those of the shared beginning are the first ones.
        count = len(backbone.space.layer_runs(route[:shared]))
        runs = backbone.space.layer_runs(route)[count:]
        total += sum(costs.layer_macs(key, size) for key in runs)
        before, anchor = route, first
    return total


def bf16(args: argparse.Namespace) -> None:
    """Both anchors under autocast to bfloat16 and without."""
    import torch

    at = Setting(args)
    print(at.header())
    for stitch in at.ids(at.backbone.space.ids[: len(at.backbone.anchors)]):

        def forward(enabled: bool, stitch: int = stitch) -> None:
            kind = str(at.device).split(":")[0]
            with (
                torch.autocast(kind, torch.bfloat16, enabled=enabled),
                at.backbone.use_stitch(stitch),
            ):
                at.backbone(at.image)

        print(f"\nstitch {stitch}, forward")
        with torch.inference_mode():
            at.compare({"float32": lambda: forward(False), "bfloat16": lambda: forward(True)})
