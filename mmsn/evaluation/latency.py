"""How long each stitch takes on this machine.

Passes of different stitches are interleaved, so that a machine that slows down meanwhile slows all
of them alike. What is timed is backbone, neck and decode head on random pixels; reading images and
resizing the prediction are not.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from mmsn.evaluation.report import Latency, LatencySetting
from mmsn.models import stitched_backbone, unwrap

Name = TypeVar("Name")


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
    """
    model = unwrap(model)
    backbone, ids = stitched_backbone(model), list(ids)
    device = next(model.parameters()).device
    half = half_precision(device)
    dtype = next(model.parameters()).dtype
    own_random = torch.Generator().manual_seed(0)
    image = torch.randn(batch_size, 3, *image_size, generator=own_random).to(device, dtype)
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
    """What latencies that are measured here and now are good for."""
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
        for name in order.sample(names, len(names)):
            _wait(device)
            start = time.perf_counter()
            passes[name]()
            _wait(device)
            if number >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
        on_pass()
    return {name: _summary(values) for name, values in times.items()}


def _processor() -> str:
    """The CPU by name: Linux says it in a file, elsewhere Python knows only the architecture."""
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
    p90 = ordered[min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))]
    return Latency(p50_ms=statistics.median(ordered), p90_ms=p90, repeats=len(ordered))
