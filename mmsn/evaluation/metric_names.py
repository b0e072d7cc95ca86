"""What a metric's name implies: its direction, its unit, how its values are printed."""

from __future__ import annotations

# Lower values of these are better; every other metric is taken as "higher is better".
LOWER_IS_BETTER = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
UNITS = {"mIoU": "%", "mAcc": "%", "aAcc": "%", "rmse": "m", "sq_rel": "m"}


def lower_is_better(metric: str) -> bool:
    """Whether lower is better; a prefix, as in ``depth/rmse``, does not matter."""
    return metric.rpartition("/")[2] in LOWER_IS_BETTER


def metric_label(metric: str) -> str:
    """A metric's name for an axis, with its unit and, where lower is better, a note of that."""
    unit = UNITS.get(metric.rpartition("/")[2])
    notes = [*([unit] if unit else []), *(["lower is better"] if lower_is_better(metric) else [])]
    return f"{metric} ({', '.join(notes)})" if notes else metric


def shown(value: float) -> str:
    """A metric's value with four significant digits: 45.57 percent, and 0.5131 meters as well."""
    return f"{value:#.4g}"
