"""The model and the inputs that rows of benchmark_speed.py measure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from _speed import Times, interleave, machine, ratio, table

TIMES = ["", "median, ms", "quartiles, ms", "process, ms"]


class Setting:
    """The model of a config with random weights, and random inputs.

    ``freeze_anchors`` overrides the config's.
    """

    def __init__(self, args: argparse.Namespace, freeze_anchors: bool | None = None) -> None:
        import torch

        from mmsn.models import build, read_config, stitched_backbone

        self.args = args
        self.device = args.device
        config = read_config(args.config)
        if freeze_anchors is not None:
            config.model.get("backbone", config.model).freeze_anchors = freeze_anchors
        self.model = build(config, self.device)
        self.backbone = stitched_backbone(self.model)
        patch = self.backbone.anchor(0).token_layout.patch_size
        size = args.image_size or self.backbone.img_size
        if args.quick and not args.image_size:
            size = [max(side // 2 // p * p, p) for side, p in zip(size, patch, strict=True)]
        self.size: tuple[int, int] = (size[0], size[1])
        self.image = torch.randn(args.batch_size, 3, *self.size, device=self.device)

    def ids(self, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Those asked for; else the default, or all."""
        from mmsn.stitching import resolve

        if self.args.stitch is None:
            return tuple(default or self.backbone.space.ids)
        return resolve(self.backbone.space, self.backbone.stitch_macs(self.size), self.args.stitch)

    def header(self) -> str:
        size = f"{self.args.batch_size} x {self.size[0]}x{self.size[1]}"
        quick = ", QUICK: one round, hardly warmed up" if self.args.quick else ""
        rounds = f"{self.args.rounds} rounds{quick}"
        return f"{self.args.config}, {size}, {machine(self.device)}, {rounds}"

    def spread(self, count: int) -> tuple[int, ...]:
        """Stitches from the smallest to the largest, evenly spaced in the order of FLOPs."""
        macs = self.backbone.stitch_macs(self.size)
        order = sorted(macs, key=lambda stitch: macs[stitch])
        last = len(order) - 1
        return tuple(order[round(n * last / max(count - 1, 1))] for n in range(count))

    def samples(self, count: int) -> list[Any]:
        """Data samples with random labels and depths, of the images' size."""
        import torch
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        made = []
        for _ in range(count):
            meta = dict(img_shape=self.size, pad_shape=self.size, ori_shape=self.size)
            labels = torch.randint(0, 2, (1, *self.size), device=self.device)
            depth = torch.rand(1, *self.size, device=self.device) + 1
            made.append(
                SegDataSample(
                    metainfo=meta,
                    gt_sem_seg=PixelData(data=labels),
                    gt_depth_map=PixelData(data=depth),
                )
            )
        return made

    def loss(self, image: Any, samples: list[Any]) -> Any:
        """What training minimizes."""
        return self.model.parse_losses(self.model.loss(image, samples))[0]

    def compare(
        self, ways: dict[str, Callable[[], Any]], warm_up: Callable[[], Any] | None = None
    ) -> dict[str, Times]:
        """Time the ways, print a table, and the ratio of the first to each of the others."""
        times = interleave(ways, self.args.rounds, self.device, warm_up)
        report(times)
        return times


def report(times: dict[str, Times]) -> None:
    print(table(TIMES, [t.row(name) for name, t in times.items()]))
    first, *others = times
    for other in others:
        print(f"{first} / {other}: {ratio(times[first], times[other])}")


def maps(levels: Any) -> list[Any]:
    """Without unread levels and class tokens."""
    return [x[0] if isinstance(x, tuple) else x for x in levels if x is not None]
