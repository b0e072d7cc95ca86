"""What every stitch of a segmentor costs: FLOPs, parameters, memory for activations.

Only shapes are read, so a model on the device "meta" (``mmsn.models.build``) is enough. Times are
in ``mmsn.evaluation.latency``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

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


def stitch_costs(
    model: Any, image_size: tuple[int, int] | None = None, batch_size: int = 1
) -> tuple[StitchCost, ...]:
    """Costs of all stitches for (height, width) images, in ascending order of FLOPs.

    The size is by default that of the training crop. The model may be on any device, also "meta".
    """
    backbone = stitched_backbone(model)
    size = image_size or backbone.img_size
    macs, params = segmentor_macs(model, size), segmentor_params(model)
    memory = activation_bytes(model, size, batch_size)
    costs = (StitchCost(s, macs[s.id], params[s.id], memory[s.id]) for s in backbone.space)
    return tuple(sorted(costs, key=lambda c: (c.macs, c.stitch.id)))


def group_costs(costs: Sequence[StitchCost]) -> tuple[tuple[StitchCost, ...], ...]:
    """The budget groups that training draws from, in ascending order of FLOPs."""
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
        # rich would read the brackets of a stitch as markup.
        return f"{row[0].stitch.id} ({row[0].stitch.kind}): {row[0].stitch}".replace("[", "\\[")
    ids = ", ".join(str(cost.stitch.id) for cost in row[:4])
    return f"{len(row)} stitches: {ids}{', ...' if len(row) > 4 else ''}"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} - {high}"
