"""How long each stitch takes on this machine, as a table that is refused on another machine.

Passes of different stitches are interleaved, so that a machine that slows down affects all of them
equally. Backbone, neck and decode head are timed on random pixels; reading images and resizing the
prediction are not.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import Self

from mmsn.errors import UserError
from mmsn.evaluation.json_file import Count, JsonFile, Number
from mmsn.evaluation.report import Latency, LatencySetting
from mmsn.models import segmentor_macs, stitched_backbone, unwrap

Name = TypeVar("Name")
TOLERANCE = 0.2  # by which two measurements of the same thing may differ without a warning


class TimedStitch(BaseModel):
    """One stitch; ``macs`` are those of the whole segmentor for one image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Number
    macs: Count
    latency: Latency


class LatencyTable(JsonFile):
    """Latencies of a model's stitches for images of (height, width) ``image_size``."""

    what = "latency table"

    schema_version: Literal[1] = 1
    title: str
    torch_version: str
    image_size: tuple[Count, Count]
    setting: LatencySetting
    stitches: list[TimedStitch]

    @model_validator(mode="after")
    def _names_each_stitch_once(self) -> Self:
        times: dict[int, float] = {}
        for stitch in self.stitches:
            if stitch.id in times:
                raise ValueError(
                    f"stitch {stitch.id} is listed twice, with {times[stitch.id]} and "
                    f"{stitch.latency.p50_ms} ms; keep one entry"
                )
            times[stitch.id] = stitch.latency.p50_ms
        return self

    @classmethod
    def measure(
        cls,
        model: Any,
        ids: Iterable[int],
        image_size: tuple[int, int],
        title: str = "",
        batch_size: int = 1,
        repeats: int = 20,
        on_pass: Callable[[], None] = lambda: None,
    ) -> LatencyTable:
        """Time stitches on the model's device; see ``measure_latency``."""
        macs = segmentor_macs(model, image_size)
        latencies, setting = measure_latency(
            model, ids, image_size, batch_size, repeats, on_pass=on_pass
        )
        return cls(
            title=title,
            torch_version=torch.__version__,
            image_size=image_size,
            setting=setting,
            stitches=[TimedStitch(id=i, macs=macs[i], latency=t) for i, t in latencies.items()],
        )

    def check(
        self,
        model: Any,
        image_size: tuple[int, int],
        batch_size: int = 1,
        force: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Refuse a table of another model, or one measured with another setting.

        Args:
            model: the segmentor; call this inside ``torch.autocast`` if it will run there.
            image_size: (height, width) of the images to come.
            batch_size: of the images to come.
            force: accept another setting, but not another model.
            device: where the model will run, by default where it is.

        Raises:
            UserError: what is different.
        """
        # FLOPs tell models apart without their weights, on which times do not depend.
        macs = segmentor_macs(model, self.image_size)
        wrong = [s for s in self.stitches if macs.get(s.id) != s.macs]
        if wrong:
            raise UserError(
                f"latency table {self.title!r} is of another model: its stitch {wrong[0].id} takes "
                f"{wrong[0].macs / 1e9:.6g} GFLOPs, here {macs.get(wrong[0].id, 0) / 1e9:.6g}; "
                "measure one of this model"
            )
        if force:
            return
        parameter = next(unwrap(model).parameters())
        device = device or parameter.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else parameter.dtype
        setting = latency_setting(device, dtype, batch_size)
        there = {
            "torch": self.torch_version,
            "image size": self.image_size,
            **self.setting.model_dump(),
        }
        here = {"torch": torch.__version__, "image size": image_size, **setting.model_dump()}
        faults = [f"{k} {there[k]} there, {here[k]} here" for k in here if there[k] != here[k]]
        if faults:
            raise UserError(
                f"latency table {self.title!r} was measured with another setting "
                f"({'; '.join(faults)}): measure one here, or force it"
            )

    def text(self) -> str:
        """All stitches by cost, with the median, the 90th percentile and the spread."""
        table = Table(title=escape(f"{self.title}: {self.setting.device}, {self.setting.dtype}"))
        for name in ("stitch", "GFLOPs", "p50 (ms)", "p90 (ms)", "spread", "passes"):
            table.add_column(name, justify="right")
        for stitch in sorted(self.stitches, key=lambda s: (s.macs, s.id)):
            latency = stitch.latency
            table.add_row(
                str(stitch.id),
                f"{stitch.macs / 1e9:.4g}",
                f"{latency.p50_ms:.4g}",
                f"{latency.p90_ms:.4g}",
                f"{latency.spread:.0%}",
                str(latency.repeats),
            )
        text = StringIO()
        Console(file=text, width=100).print(table)
        return text.getvalue()


@torch.no_grad()
def measure_latency(
    model: Any,
    ids: Iterable[int],
    image_size: tuple[int, int],
    batch_size: int = 1,
    repeats: int = 20,
    warm_up: int = 2,
    autocast: bool = False,
    on_pass: Callable[[], None] = lambda: None,
) -> tuple[dict[int, Latency], LatencySetting]:
    """Time some stitches of a segmentor, in evaluation mode.

    Args:
        model: with a ``StitchedViT`` backbone, on its device.
        ids: the stitches.
        image_size: (height, width) of the input.
        batch_size: images per pass.
        repeats: timed passes of each stitch, after ``warm_up`` untimed ones.
        autocast: mixed precision: float16 on a GPU, bfloat16 on a CPU, as mmengine has it.
        on_pass: called after each round of all stitches.

    Warns:
        UserWarning: the two halves of the passes disagree; see ``disagreements``.
    """
    model = unwrap(model)
    backbone, ids = stitched_backbone(model), list(ids)
    device = next(model.parameters()).device
    half = half_precision(device)
    dtype = next(model.parameters()).dtype
    # A generator of its own: timing in the middle of a run must not change later random numbers.
    own_random = torch.Generator().manual_seed(0)
    image = torch.randn(batch_size, 3, *image_size, generator=own_random).to(device, dtype)
    # Per module: ``train(True)`` afterward would also switch on parts that were frozen.
    modes = {module: module.training for module in model.modules()}
    model.eval()

    def run(stitch: int) -> None:
        with (
            backbone.use_stitch(stitch),
            torch.autocast(device.type, half, enabled=autocast),
        ):
            model(image, mode="tensor")

    try:
        passes = {i: partial(run, i) for i in ids}
        latencies = time_interleaved(passes, device, repeats, warm_up, on_pass)
    finally:
        for module, mode in modes.items():
            module.training = mode
    setting = latency_setting(device, half if autocast else image.dtype, batch_size)
    return latencies, setting


def half_precision(device: torch.device) -> torch.dtype:
    """What mmengine's mixed precision uses on a device."""
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def latency_setting(device: torch.device, dtype: torch.dtype, batch_size: int) -> LatencySetting:
    """The setting of latencies that are measured here and now."""
    return LatencySetting(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        dtype=str(dtype).removeprefix("torch."),
        batch_size=batch_size,
        threads=torch.get_num_threads(),
    )


def time_interleaved(
    passes: Mapping[Name, Callable[[], object]],
    device: torch.device,
    repeats: int = 20,
    warm_up: int = 2,
    on_pass: Callable[[], None] = lambda: None,
) -> dict[Name, Latency]:
    """Time each of some calls ``repeats`` times, in rounds of all in a random order."""
    names = list(passes)
    times: dict[Name, list[float]] = {name: [] for name in names}
    order = random.Random(0)
    for number in range(warm_up + repeats):
        # Another order in each round, so that none always runs after the same other one.
        for name in order.sample(names, len(names)):
            _wait(device)  # kernels run asynchronously; none may be left from the pass before
            start = time.perf_counter()
            passes[name]()
            _wait(device)
            if number >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
        on_pass()
    _warn(disagreements(times))
    return {name: _summary(values) for name, values in times.items()}


def disagreements(times: Mapping[Name, Sequence[float]]) -> dict[Name, tuple[float, float]]:
    """Calls whose median differs between the two halves of their passes by over ``TOLERANCE``.

    The halves are two measurements of the same thing. If their medians differ, the load of the
    machine has changed meanwhile, and the figures depend on when they were taken.

    Args:
        times: of the passes, in the order in which they ran; fewer than four say nothing.

    Returns:
        Medians of the first and of the second half.
    """
    found = {}
    for name, values in times.items():
        middle = len(values) // 2
        if middle < 2:
            continue
        halves = statistics.median(values[:middle]), statistics.median(values[-middle:])
        if max(halves) > (1 + TOLERANCE) * min(halves):
            found[name] = halves
    return found


def _warn(found: Mapping[Name, tuple[float, float]]) -> None:
    if not found:
        return
    name, (first, second) = max(found.items(), key=lambda item: max(item[1]) / min(item[1]))
    others = f", and {len(found) - 1} others differ as well" if len(found) > 1 else ""
    warnings.warn(
        f"two measurements of {name} differ by more than {TOLERANCE:.0%}: {first:.4g} ms in the "
        f"first half of its passes, {second:.4g} ms in the second{others}; the machine was busy, "
        "so measure again when it is idle, or with more passes",
        stacklevel=3,
    )


def _processor() -> str:
    """The CPU's name, from /proc/cpuinfo on Linux; elsewhere Python knows only the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu ({names[0] if names else platform.processor() or platform.machine()})"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(values: list[float]) -> Latency:
    ordered = sorted(values)
    # The nearest rank: a time that was measured, not one between two.
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return Latency(p50_ms=statistics.median(ordered), p90_ms=p90, repeats=len(ordered))
