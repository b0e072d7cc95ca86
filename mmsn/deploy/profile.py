"""What every stitch of a config costs, before any training and without any memory for weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table

from mmsn.models import activation_bytes, segmentor_macs, segmentor_params, stitched_backbone
from mmsn.stitching import Stitch, budget_groups, count_units, default_step


@dataclass(frozen=True)
class StitchCost:
    """Costs of a whole segmentor for a batch of images.

    ``macs`` are multiply-accumulates per image; ``activation_bytes`` are for the batch, in float32,
    see ``mmsn.models.activations``.
    """

    stitch: Stitch
    macs: int
    params: int
    activation_bytes: int


def build_on_meta(config: Config) -> Any:
    """The segmentor of a config, with shapes and without values."""
    init_default_scope(config.get("default_scope", "mmseg"))
    with torch.device("meta"):
        return MODELS.build(config.model)


def profile(
    model: Any, image_size: tuple[int, int] | None = None, batch_size: int = 1
) -> tuple[StitchCost, ...]:
    """Costs of all stitches, from cheap to dear, for (height, width) images.

    The size is that of the training crop unless told. The model may be on any device, also "meta".
    """
    backbone = stitched_backbone(model)
    size = image_size or backbone.img_size
    macs, params = segmentor_macs(model, size), segmentor_params(model)
    memory = activation_bytes(model, size, batch_size)
    costs = (StitchCost(s, macs[s.id], params[s.id], memory[s.id]) for s in backbone.space)
    return tuple(sorted(costs, key=lambda c: (c.macs, c.stitch.id)))


def group_costs(costs: Sequence[StitchCost]) -> tuple[tuple[StitchCost, ...], ...]:
    """The budget groups that training draws from, from cheap to dear."""
    by_id = {cost.stitch.id: cost for cost in costs}
    macs = {i: cost.macs for i, cost in by_id.items()}
    units = count_units(segment for cost in costs for segment in cost.stitch.segments)
    groups = budget_groups(macs, default_step(macs, units))
    return tuple(tuple(by_id[i] for i in group) for group in groups)


def cost_table(
    rows: Sequence[Sequence[StitchCost]], latencies: Mapping[int, float] | None = None
) -> str:
    """Costs as text, one line for each group of stitches; a group may be one stitch."""
    table = Table()
    names = ["stitch", "GFLOPs", "params (M)", "activations (MB)"]
    names += ["p50 (ms)"] if latencies else []
    for name in names:
        table.add_column(name, justify="left" if name == "stitch" else "right")
    for row in rows:
        cells = [
            _name(row),
            _span([cost.macs / 1e9 for cost in row]),
            _span([cost.params / 1e6 for cost in row]),
            _span([cost.activation_bytes / 1e6 for cost in row]),
        ]
        if latencies:
            timed = [latencies[c.stitch.id] for c in row if c.stitch.id in latencies]
            cells.append(_span(timed) if timed else "")
        table.add_row(*cells)
    text = StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


def _name(row: Sequence[StitchCost]) -> str:
    if len(row) == 1:
        return f"{row[0].stitch.id} ({row[0].stitch.kind}): {row[0].stitch}".replace("[", "\\[")
    ids = ", ".join(str(cost.stitch.id) for cost in row[:4])
    return f"{len(row)} stitches: {ids}{', ...' if len(row) > 4 else ''}"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} - {high}"
