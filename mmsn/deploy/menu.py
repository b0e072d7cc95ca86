"""Choosing a stitch at run time, by what it may cost.

    menu = StitchMenu(model, report=ParetoReport.load("pareto.json"))
    with menu.use("400G") as selection:  # this thread, this block
        result = inference_model(model, image)

A menu only reads: weights, report and latency table are shared by all threads, and what ``use``
changes is seen by the calling thread alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmsn.deploy.budget import Budget, BudgetError, parse_budget
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport, lower_is_better
from mmsn.evaluation.latency import LatencyTable
from mmsn.models import segmentor_macs, segmentor_params, stitched_backbone
from mmsn.stitching import Stitch, resolve
from mmsn.stitching.selection import StitchNames


@dataclass(frozen=True)
class Selection:
    """The stitch that was chosen, what it costs, and why it was chosen.

    ``macs`` are multiply-accumulates of the whole segmentor for one image; ``latency_ms`` is the
    median of the latency table, and ``score`` the report's figure for ``metric``, where there is
    one.
    """

    stitch: Stitch
    macs: int
    params: int
    latency_ms: float | None
    metric: str | None
    score: float | None
    why: str

    def __str__(self) -> str:
        text = f"stitch {self.stitch.id}: {self.macs / 1e9:.4g} GFLOPs, {self.params / 1e6:.4g} M"
        text += " parameters"
        if self.latency_ms is not None:
            text += f", {self.latency_ms:.4g} ms"
        if self.score is not None:
            text += f", {self.metric} {self.score:.4g}"
        return f"{text} ({self.why})"


class StitchMenu:
    """All stitches of a segmentor with their costs, counted once, to choose from by budget.

    Args:
        model: with a ``StitchedViT`` backbone: of ``open_segmentor``, or ``inferencer.model``.
        report: measured metrics; without it, more FLOPs count as better.
        latency_table: measured times; only budgets in ms need it.
        image_size: (height, width) that FLOPs and latencies are for, by default the training crop.
        batch_size: images per pass that latencies are for.
        metric: which one of the report, by default its own choice.
        force: take a latency table of another device or setting.

    Raises:
        UserError: a report or a latency table of another model, or a table of another setting.
    """

    def __init__(
        self,
        model: Any,
        report: ParetoReport | None = None,
        latency_table: LatencyTable | None = None,
        image_size: tuple[int, int] | None = None,
        batch_size: int = 1,
        metric: str | None = None,
        force: bool = False,
    ) -> None:
        self.backbone = stitched_backbone(model)
        self.image_size = image_size or self.backbone.img_size
        self.macs = segmentor_macs(model, self.image_size)
        self.params = segmentor_params(model)
        self.latency_ms: dict[int, float] = {}
        self.metric: str | None = None
        self.scores: dict[int, float] = {}
        if latency_table is not None:
            latency_table.check(model, self.image_size, batch_size, force)
            self.latency_ms = {s.id: s.latency.p50_ms for s in latency_table.stitches}
        if report is not None:
            self._check(report)
            self.metric = metric or report.default_metric()
            if any(self.metric not in result.metrics for result in report.stitches):
                known = ", ".join(report.stitches[0].metrics)
                raise UserError(f"metric {self.metric!r} is not in {report.title!r}: use {known}")
            scores = {result.id: result.metrics[self.metric] for result in report.stitches}
            # NaN compares false with everything, so ``max`` would depend on the order.
            self.scores = {i: score for i, score in scores.items() if not math.isnan(score)}
            if not self.scores:
                raise UserError(
                    f"report {report.title!r} has no number for {self.metric}: choose another "
                    "metric, or without the report"
                )
            # A budget in ms is met by a stitch that was measured and timed.
            timed = [i for i in self.latency_ms if i in self.scores]
            if self.latency_ms and not timed:
                raise UserError(
                    f"report {report.title!r} measured none of the stitches that the latency table "
                    "timed: time those of the report"
                )

    def _check(self, report: ParetoReport) -> None:
        """Is this a report of this model?"""
        for result in report.stitches:
            known = result.id in self.backbone.space
            own = self.backbone.space[result.id] if known else None
            if own is None or (own.kind, own.segments) != (result.kind, result.segments):
                here = f"runs {own}" if own else "does not exist"
                raise UserError(
                    f"report {report.title!r} is of another stitching space: its stitch "
                    f"{result.id} runs {result.segment_text()}, which here {here}; give the report "
                    "of this model"
                )
            # Parameters, not MACs: those of a report may be for another image size.
            if result.params != self.params[result.id]:
                raise UserError(
                    f"report {report.title!r} is of another model: its stitch {result.id} has "
                    f"{result.params} parameters, here {self.params[result.id]}; give the report "
                    "of this model"
                )

    def resolve(self, names: StitchNames) -> tuple[int, ...]:
        """Ids that names stand for; see ``mmsn.stitching.resolve``."""
        return resolve(self.backbone.space, self.macs, names)

    def one(self, name: str | int) -> int:
        """The id of the one stitch that a name stands for.

        Raises:
            UserError: an unknown name, or one that stands for several stitches or none.
        """
        ids = self.resolve(name)
        if len(ids) != 1:
            raise UserError(
                f"{name!r} stands for {len(ids)} stitches, and one is wanted: give an id or "
                "'middle'"
            )
        return ids[0]

    def _better(self, stitch_id: int) -> tuple[float, float, int]:
        """Sorts stitches: by score, then the cheaper one; by FLOPs where nothing was measured."""
        if self.metric is None:
            return self.macs[stitch_id], 0, -stitch_id
        sign = -1 if lower_is_better(self.metric) else 1
        # Ids come last, so that the choice among equals is the same in every run.
        return sign * self.scores[stitch_id], -self.macs[stitch_id], -stitch_id

    def costs(self, budget: Budget) -> dict[int, float]:
        """What each stitch costs in the unit of a budget; no stitch that was not timed.

        Raises:
            BudgetError: a budget in ms without a latency table.
        """
        return _costs(budget, self.macs, self.params, self.latency_ms)

    def select(self, budget: str | int | Budget) -> Selection:
        """The best stitch within a budget; nothing is switched.

        With a report that is the stitch of the best measured metric, of equals the cheapest;
        without one, the stitch of most FLOPs. Everything fits a budget above the most expensive
        stitch, and ``why`` says that it is above it.

        Raises:
            BudgetError: a budget that is not understood (see ``parse_budget``), below the cheapest
                stitch, or within which no stitch was measured.
            UserError: an id that the space does not have.
        """
        budget = parse_budget(budget)
        if budget.kind == "id":
            return self._selection(self.backbone.space[int(budget.amount)], "by id")
        costs = self.costs(budget)
        remark = budget.check(costs.values())
        fits = [i for i, cost in costs.items() if cost <= budget.limit]
        if self.scores:
            fits = [i for i in fits if i in self.scores]
            if not fits:
                cheapest = min(self.scores.keys() & costs.keys(), key=costs.__getitem__)
                raise BudgetError(
                    f"no stitch within {budget} was measured: the cheapest in the report is stitch "
                    f"{cheapest}; benchmark more, or choose without the report"
                )
        why = f"best measured {self.metric} within" if self.scores else "largest that fits"
        best = max(fits, key=self._better)
        why = f"{why} {budget}" + (f", which is {remark}" if remark else "")
        return self._selection(self.backbone.space[best], why)

    def _selection(self, stitch: Stitch, why: str) -> Selection:
        i = stitch.id
        return Selection(
            stitch,
            self.macs[i],
            self.params[i],
            self.latency_ms.get(i),
            self.metric if i in self.scores else None,
            self.scores.get(i),
            why,
        )

    @contextmanager
    def use(self, budget: str | int | Budget) -> Iterator[Selection]:
        """Run the best stitch within a budget inside a ``with`` block, in this thread alone."""
        selection = self.select(budget)
        with self.backbone.use_stitch(selection.stitch.id):
            yield selection

    def set(self, budget: str | int | Budget) -> Selection:
        """Run the best stitch within a budget from now on, wherever no ``use`` holds."""
        selection = self.select(budget)
        self.backbone.set_stitch(selection.stitch.id)
        return selection

    def frontier_ms(self) -> dict[int, float]:
        """Milliseconds of the stitches that no faster one beats, from fast to slow.

        Better is what ``select`` takes for better.

        Raises:
            BudgetError: without a latency table.
        """
        timed = self.costs(Budget("latency", 1.0))
        known = [i for i in timed if not self.scores or i in self.scores]
        best: list[int] = []
        # Of equal times the best comes first, and only what is better than all faster ones is kept.
        for i in sorted(known, key=lambda i: (timed[i], [-x for x in self._better(i)])):
            if not best or self._better(i)[0] > self._better(best[-1])[0]:
                best.append(i)
        return {i: timed[i] for i in best}


def _costs(
    budget: Budget,
    macs: Mapping[int, int],
    params: Mapping[int, int],
    latency_ms: Mapping[int, float],
) -> dict[int, float]:
    """What each stitch costs in the unit of a budget; see ``StitchMenu.costs``."""
    match budget.kind:
        case "macs":
            return dict(macs)
        case "percent":
            most = max(macs.values())
            return {i: 100 * count / most for i, count in macs.items()}
        case "params":
            return dict(params)
        case "latency" if latency_ms:
            return dict(latency_ms)
        case "latency":
            raise BudgetError(
                f"budget {budget} needs a latency table of this device: measure one with "
                "tools/costs.py CONFIG --latency-table TABLE.json"
            )
    raise BudgetError(f"budget {budget} names a stitch, which has no unit")


def check_budget(budget: str | int | Budget, stitch: int, macs: int, params: int) -> None:
    """Does a model of one stitch that is not in memory, such as an exported file, meet a budget?

    Args:
        budget: as ``StitchMenu.select`` takes it.
        stitch: id of the only stitch.
        macs: its multiply-accumulates for one image of the training crop's size.
        params: its parameters.

    Raises:
        BudgetError: a budget below its cost, or one in ms, because a file has no latency table.
        UserError: the id of another stitch.
    """
    budget = parse_budget(budget)
    if budget.kind != "id":
        budget.check(_costs(budget, {stitch: macs}, {stitch: params}, {}).values())
    elif budget.amount != stitch:
        raise UserError(f"{budget} is not in this file: it holds {stitch}")


def select(
    model: Any,
    budget: str | int | Budget,
    report: ParetoReport | None = None,
    latency_table: LatencyTable | None = None,
    image_size: tuple[int, int] | None = None,
) -> Selection:
    """The best stitch of a model within a budget; nothing is switched.

    Counts the model's costs, which takes tens of milliseconds: keep a ``StitchMenu`` to choose
    often.
    """
    return StitchMenu(model, report, latency_table, image_size).select(budget)


@contextmanager
def use_budget(
    model: Any,
    budget: str | int | Budget,
    report: ParetoReport | None = None,
    latency_table: LatencyTable | None = None,
    image_size: tuple[int, int] | None = None,
) -> Iterator[Selection]:
    """``select``, and run that stitch inside a ``with`` block, in this thread alone."""
    with StitchMenu(model, report, latency_table, image_size).use(budget) as selection:
        yield selection
