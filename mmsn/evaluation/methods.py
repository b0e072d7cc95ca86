"""Several methods on one family of anchors: reports grouped from files, and their numbers.

A folder holds one report per file, named ``FAMILY_METHOD_SEED.json``. The methods ``small`` and
``large`` are the anchors trained alone, with one result each, and such as ``small-half`` the same
trained in another way; every other method is a curve. They are shown by ``methods_table``,
``methods_plot`` and ``methods_page``.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmsn.errors import UserError
from mmsn.evaluation.curve import Budgets, frontier, line_between, mean_best_within_budget
from mmsn.evaluation.metric_names import shown
from mmsn.evaluation.report import ParetoReport, StitchResult
from mmsn.stitching.sampling import budget_groups, count_units, default_step

ALONE = ("small", "large")
# In this order in tables and pictures; other methods follow by name.
TITLES = {
    "small": "small anchor alone",
    "large": "large anchor alone",
    "snnet": "SN-Net",
    "snnetv2": "SN-Netv2",
    "elastic": "elastic depth",
    "ours": "ours",
}
_NAME = re.compile(r"(?P<family>.+)_(?P<method>[^_]+)_(?P<seed>0|[1-9]\d*)")


@dataclass(frozen=True)
class Spread:
    """Values of one quantity over seeds; its text is ``mean ± (largest - smallest)``."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def width(self) -> float:
        """Largest minus smallest: with three seeds, a standard deviation would say less."""
        return max(self.values) - min(self.values)

    def __str__(self) -> str:
        text = shown(self.mean)
        if len(self.values) == 1:
            return text
        decimals = len(text.partition(".")[2])
        return f"{text} ± {self.width:.{decimals}f}"


@dataclass(frozen=True)
class Family:
    """All runs on one pair of anchors, compared by one metric over one range of budgets.

    Attributes:
        runs: reports by method and seed, methods in the order of tables.
        budgets: MACs from where every curve and the small anchor are affordable to the most
            expensive anchor. None where there is no curve.
    """

    name: str
    metric: str
    runs: dict[str, dict[int, ParetoReport]]
    budgets: Budgets | None

    @classmethod
    def of(
        cls, name: str, runs: dict[str, dict[int, ParetoReport]], metric: str | None = None
    ) -> Family:
        """Check that the reports compare, and find their range.

        Raises:
            UserError: reports of other image sizes or images, unfinished ones, one without the
                metric or without a finite value of it, an anchor alone with several results, or a
                curve with one.
        """
        # Checked all at once, before anything is drawn: every report against the first.
        runs = {method: runs[method] for method in sorted(runs, key=_rank)}
        every = [(f"{name}_{m}_{s}", r) for m, by_seed in runs.items() for s, r in by_seed.items()]
        first, metric = every[0][1], metric or every[0][1].default_metric()
        for file, report in every:
            for what in ("image_size", "of_images"):
                if getattr(report, what) != getattr(first, what):
                    raise UserError(
                        f"{file} has {what} {getattr(report, what)}, {every[0][0]} has "
                        f"{getattr(first, what)}: test all methods of a family with one setting"
                    )
            if report.images < report.of_images:
                raise UserError(
                    f"{file} covers {report.images} of {report.of_images} images: finish its test"
                )
            if metric not in report.metric_names() or not frontier(report.stitches, metric):
                raise UserError(
                    f"{file} has no finite {metric}: it holds {', '.join(report.metric_names())}"
                )
            # A file that was copied under another seed would hide how much seeds differ.
            if report.training and report.training.seed not in (None, _seed(file)):
                raise UserError(
                    f"{file} was trained with seed {report.training.seed}: rename the file"
                )
        for method, by_seed in runs.items():
            for seed, report in by_seed.items():
                file, results = f"{name}_{method}_{seed}", len(report.stitches)
                if is_alone(method) and results != 1:
                    raise UserError(f"{file} holds {results} results: an anchor alone has one")
                # The range of its budgets would be empty, and so would that of all methods.
                if not is_alone(method) and results == 1:
                    raise UserError(
                        f"{file} holds one result: a curve has more, and an anchor alone is named "
                        f"{' or '.join(ALONE)}; move it out of the folder"
                    )
        return cls(name, metric, runs, _range(runs, metric))

    @property
    def curves(self) -> list[str]:
        """The methods that are not an anchor alone."""
        return [method for method in self.runs if not is_alone(method)]

    @property
    def anchors_alone(self) -> list[str]:
        """The methods that are an anchor alone; without a suffix first, and the small one first."""
        return [method for method in self.runs if is_alone(method)]

    def alone(self, method: str) -> tuple[float, Spread]:
        """MACs and metric of an anchor trained alone, one of ``anchors_alone``."""
        results = [report.stitches[0] for report in self.runs[method].values()]
        return results[0].macs, Spread(tuple(r.metrics[self.metric] for r in results))

    def trained(self, method: str, count: Literal["train_macs", "images_seen"]) -> float | None:
        """A count of a method's training, mean over seeds; None where no report has it."""
        known = [r.training for r in self.runs[method].values() if r.training]
        counts = [value for training in known if (value := getattr(training, count))]
        return statistics.fmean(counts) if counts else None

    def line(self) -> Spread | None:
        """Mean of the straight line between the anchors trained alone, for each seed of both.

        Of those without a suffix.
        """
        # Paired by seed, so that the spread is one of whole repetitions; a seed that one of the
        # anchors lacks is left out.
        small, large = (self.runs.get(method, {}) for method in ALONE)
        seeds = sorted(small.keys() & large.keys())
        if not seeds or self.budgets is None:
            return None
        values = []
        for seed in seeds:
            ends = [by_seed[seed].stitches[0] for by_seed in (small, large)]
            points = [(end.macs, end.metrics[self.metric]) for end in ends]
            values.append(line_between(points, self.budgets))
        return Spread(tuple(values))

    def mean_best(self, method: str) -> Spread:
        """Mean best metric of a method's curve; see ``mean_best_within_budget``."""
        return self._over_seeds(
            method, lambda results: mean_best_within_budget(results, self.metric, self.budgets)
        )

    def end(self, method: str, most_expensive: bool) -> Spread:
        """The metric of a method's cheapest or most expensive network in the range of budgets."""
        # Else SN-Net's end would be a stitch that costs more than the large anchor.
        high = self.budgets[1] if self.budgets else math.inf

        def value(results: Sequence[StitchResult]) -> float:
            pick = max if most_expensive else min
            inside = [r for r in results if r.macs <= high]
            return pick(inside, key=lambda r: (r.macs, r.id)).metrics[self.metric]

        return self._over_seeds(method, value)

    def groups(self) -> list[tuple[Budgets, dict[str, Spread]]]:
        """The best of each method in each budget group, with the group's lowest and highest MACs.

        The networks of all methods are grouped as for sampling: costs in a group differ by less
        than a third of a unit of the large anchor. A method that lacks a network of a group in
        any seed is left out of that group.
        """
        reports = [r for method in self.curves for r in self.runs[method].values()]
        costs = sorted({s.macs for report in reports for s in report.stitches})
        if len(costs) < 2:
            return []
        # Of the method with the fewest units: its groups are the widest, so they suit all methods.
        units = min(count_units(seg for s in r.stitches for seg in s.segments) for r in reports)
        macs = dict(enumerate(costs))  # positions replace ids, which repeat between methods
        found: list[tuple[Budgets, dict[str, Spread]]] = []
        for group in budget_groups(macs, default_step(macs, units)):
            low, high = macs[group[0]], macs[group[-1]]
            best = {}
            for method in self.curves:
                inside = [
                    frontier([s for s in r.stitches if low <= s.macs <= high], self.metric)
                    for r in self.runs[method].values()
                ]
                if all(inside):
                    # The frontier improves with cost, so its last network is the best of the group.
                    best[method] = Spread(tuple(b[-1].metrics[self.metric] for b in inside))
            found.append(((low, high), best))
        return found

    def _over_seeds(self, method: str, value: Callable[[Sequence[StitchResult]], float]) -> Spread:
        return Spread(tuple(value(r.stitches) for r in self.runs[method].values()))


def load_families(folder: str | Path, metric: str | None = None) -> list[Family]:
    """Read all reports of a folder.

    Raises:
        UserError: no reports, a name that does not fit, a file that is not a report, or reports
            that do not compare.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise UserError(f"{folder} holds no reports: give a folder of FAMILY_METHOD_SEED.json")
    families: dict[str, dict[str, dict[int, ParetoReport]]] = {}
    for path in paths:
        name = _NAME.fullmatch(path.stem)
        if name is None:
            raise UserError(f"{path} is not named FAMILY_METHOD_SEED.json, such as a_ours_0.json")
        methods = families.setdefault(name["family"], {})
        methods.setdefault(name["method"], {})[int(name["seed"])] = ParetoReport.load(path)
    return [Family.of(name, runs, metric) for name, runs in sorted(families.items())]


def title(method: str) -> str:
    """A method's name for readers."""
    if is_alone(method):
        anchor, how = split_alone(method)
        return f"{TITLES[anchor]}, {how}" if how else TITLES[anchor]
    return TITLES.get(method, method)


def is_alone(method: str) -> bool:
    """Is a method an anchor trained alone, such as ``small`` or ``large-half``?"""
    return split_alone(method)[0] in ALONE


def split_alone(method: str) -> tuple[str, str]:
    """Which anchor trained alone, and how: the suffix, empty for the one that lines join."""
    anchor, _, how = method.partition("-")
    return anchor, how


def _seed(file: str) -> int:
    return int(file.rpartition("_")[2])


def _rank(method: str) -> tuple[bool, str, int, str]:
    if is_alone(method):
        anchor, how = split_alone(method)
        return (False, how, ALONE.index(anchor), method)
    order = list(TITLES)
    return (True, "", order.index(method) if method in order else len(order), method)


def _range(runs: dict[str, dict[int, ParetoReport]], metric: str) -> Budgets | None:
    """Where all curves and the line are defined; ends are those of the curves and anchors.

    The small end of a stitched network may cost a little more than its anchor alone, because of
    heads: the range then begins at the more expensive of both. Some stitches cost more than the
    large anchor; they lie beyond the range.
    """
    curves = [r for method in runs if not is_alone(method) for r in runs[method].values()]
    if not curves:
        return None
    small = list(runs.get("small", {}).values())
    low = max(frontier(report.stitches, metric)[0].macs for report in [*curves, *small])
    every = [s for by_seed in runs.values() for r in by_seed.values() for s in r.stitches]
    anchors = [s for s in every if s.kind == "anchor"]
    high = max(s.macs for s in anchors or every)  # reports of some stitches may lack the anchors
    return (low, high) if low < high else None
