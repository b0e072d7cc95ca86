"""The tables of several methods on one family of anchors, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from mmsn.evaluation.methods import Family, Spread, split_alone, title
from mmsn.evaluation.metric_names import lower_is_better, metric_label


def methods_markdown(family: Family) -> str:
    """Two tables: methods by their number, and the best of each budget group."""
    rows = [
        ["method", "seeds", "small end", "large end", "mean best", "training", "images"],
        ["---", *["---:"] * 6],
    ]
    for method in family.anchors_alone:
        _, found = family.alone(method)
        ends = [str(found), ""] if split_alone(method)[0] == "small" else ["", str(found)]
        rows.append([*_start(family, method), *ends, "", *_training(family, method)])
    if (line := family.line()) is not None:
        rows.append(["straight line between them", *["", "", ""], str(line), "", ""])
    for method in family.curves:
        ends = [str(family.end(method, most_expensive)) for most_expensive in (False, True)]
        mean = [str(family.mean_best(method))]
        rows.append([*_start(family, method), *ends, *mean, *_training(family, method)])
    text = [_table(rows), "", _notes(family), ""]
    groups = family.groups()
    if groups:
        rows = [
            ["GFLOPs", *(title(method) for method in family.curves)],
            ["---", *["---:"] * len(family.curves)],
        ]
        for (low, high), best in groups:
            cells = [
                f"**{best[m]}**" if m == _best(family, best) else str(best.get(m, "-"))
                for m in family.curves
            ]
            rows.append([_span(low, high), *cells])
        heading = f"Best {metric_label(family.metric)} among the networks of each budget group:"
        text += [heading, "", _table(rows)]
    return "\n".join(text) + "\n"


def _best(family: Family, best: dict[str, Spread]) -> str | None:
    pick = min if lower_is_better(family.metric) else max
    return pick(best, key=lambda method: best[method].mean) if best else None


def _start(family: Family, method: str) -> list[str]:
    return [title(method), str(len(family.runs[method]))]


def _training(family: Family, method: str) -> list[str]:
    macs, images = family.trained(method, "train_macs"), family.trained(method, "images_seen")
    return [_prefixed(macs) if macs else "-", f"{round(images):,}" if images else "-"]


def _notes(family: Family) -> str:
    first = next(iter(next(iter(family.runs.values())).values()))
    notes = [
        f"Metric: {metric_label(family.metric)}, on {first.of_images} images. FLOPs are "
        f"multiply-accumulates at {first.image_size[0]}x{first.image_size[1]}; training: "
        "those of all forward and backward passes (T: 10^12, P: 10^15, E: 10^18)."
    ]
    if family.budgets is not None:
        low, high = (macs / 1e9 for macs in family.budgets)
        notes.append(
            "Small and large end: a method's cheapest and most expensive network up to "
            f"{high:.4g} GFLOPs. Mean best: the mean over all budgets from {low:.4g} to "
            f"{high:.4g} GFLOPs of the best {family.metric} within the budget."
        )
    notes.append("± is the spread between seeds: largest minus smallest.")
    return " ".join(notes)


def _span(low: float, high: float) -> str:
    ends = [f"{macs / 1e9:.3g}" for macs in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _prefixed(macs: float) -> str:
    for factor, prefix in ((1e18, "E"), (1e15, "P")):
        if macs >= factor:
            return f"{macs / factor:.3g} {prefix}"
    return f"{macs / 1e12:.3g} T"


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
