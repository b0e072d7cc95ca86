"""A web page to try budgets: an image, a slider, the painted classes, and what it took.

Needs ``pip install "mmsn[demo]"``. Every request chooses its stitch for itself, so that visitors
with different budgets share one set of weights. Large photos are reduced to what a screen shows.
Made for a screen of 1366x768: slider and curve are seen together, beside the two pictures.
"""

from __future__ import annotations

import html
import math
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
import plotly.graph_objects as go

from mmsn.datasets.shapes_render import render
from mmsn.deploy.infer import overlay
from mmsn.deploy.menu import Selection, StitchMenu
from mmsn.deploy.predictor import Predictor, read_image
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport, pareto_figure

LONGEST_SIDE = 1024  # pixels of what is predicted and shown
PASSES, PATIENCE = 5, 2.0  # passes behind the median; none starts after so many seconds
PICTURE, CURVE = 262, 320  # pixels of height, which with the rest make less than 768
LEGEND = 12  # classes that it names, the largest ones
CHIP = "display: inline-block; width: 0.9em; height: 0.9em; margin: 0 0.3em 0 0.8em"


def build_page(model: Any, report: ParetoReport | None = None) -> gr.Blocks:
    """The page for a model of ``open_segmentor``; a report adds its curve with the chosen point."""
    predictor = Predictor.of(model, report)
    menu = predictor.menu
    if menu is None:
        raise UserError("the model has no stitches to choose from: give the supernet's config")
    scored = [i for i in menu.macs if not menu.scores or i in menu.scores]
    most = max(menu.macs.values())
    lowest = math.ceil(100 * min(menu.macs[i] for i in scored) / most)
    one_at_a_time = threading.Lock()  # parallel passes would distort the measured times

    def answer(file: str | None, percent: float) -> Iterator[tuple[Any, str, str, Any]]:
        selection = menu.select(f"{percent}%")
        curve = _curve(report, menu, selection) if report else None
        if file is None:
            yield None, str(selection), "", curve
            return
        image = _shown(file)
        stitch = selection.stitch.id
        with one_at_a_time:
            found = predictor.predict(image, stitch)  # also the pass that warms up
            painted = overlay(predictor, image, found)
            legend = "" if found.labels is None else _legend(predictor, found.labels)
            yield painted, f"measuring: {selection}", legend, curve
            times: list[float] = []
            begun = time.perf_counter()
            while len(times) < PASSES and time.perf_counter() - begun < PATIENCE:
                start = time.perf_counter()
                predictor.predict(image, stitch)
                times.append(1e3 * (time.perf_counter() - start))
        took = f"**{statistics.median(times):.0f} ms** measured, the median of {len(times)}"
        yield painted, f"{took}: {selection}", legend, curve

    with gr.Blocks(title="mmsn", analytics_enabled=False) as page:
        with gr.Row():
            image = gr.Image(
                label="image",
                type="filepath",
                sources=["upload", "clipboard"],
                height=PICTURE,
            )
            # gradio would open a broken file, and fail, before this page could say so.
            image.preprocess = lambda upload: upload.path if upload is not None else None
            painted = gr.Image(label="classes", type="numpy", format="png", height=PICTURE)
        with gr.Row():
            with gr.Column():
                percent = gr.Slider(
                    min(lowest, 99),  # a slider needs two ends, also one that is not seen
                    100,
                    value=100,
                    step=1,
                    visible=lowest < 100,  # one stitch leaves nothing to choose
                    label=f"budget: percent of {most / 1e9:.4g} GFLOPs (multiply-accumulates)",
                )
                text = gr.Markdown(elem_id="chosen")
                legend = gr.HTML(elem_id="legend")
            curve = gr.Plot(show_label=False, visible=report is not None)
        gr.Examples(_examples(), image, label="examples", examples_per_page=4)
        for event in (image.change, percent.change, page.load):
            event(
                answer,
                [image, percent],
                [painted, text, legend, curve],
                trigger_mode="always_last",
                show_progress="full",
                show_progress_on=painted,
            )
    return page


def _shown(file: str) -> np.ndarray:
    """(H, W, 3) RGB pixels of an upload, reduced to ``LONGEST_SIDE``."""
    try:
        image = read_image(file)
    except UserError as error:
        told = "This file is not an image that can be read: try a JPEG or PNG."
        raise gr.Error(told, print_exception=False) from error
    share = LONGEST_SIDE / max(image.shape[:2])
    if share < 1:
        height, width = (max(1, round(share * side)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image


def _legend(predictor: Predictor, labels: np.ndarray) -> str:
    """Colors and names of the classes that are seen, from the largest one on."""
    names = predictor.spec.classes or tuple(map(str, range(len(predictor.palette))))
    count = np.bincount(labels[labels < len(names)], minlength=len(names))
    seen = [i for i in np.argsort(-count, kind="stable") if count[i]]
    chips = [
        f'<span><i style="{CHIP}; background: rgb{tuple(map(int, predictor.palette[i]))}"></i>'
        f"{html.escape(names[i])} {count[i] / labels.size:.0%}</span>"
        for i in seen[:LEGEND]
    ]
    return " ".join(chips) + (f" and {len(seen) - LEGEND} more" if len(seen) > LEGEND else "")


def _examples() -> list[str]:
    """Files with scenes of the built-in dataset."""
    folder = Path(tempfile.mkdtemp(prefix="mmsn-examples-"))
    for seed in range(4):
        image, _ = render(np.random.default_rng(seed), 192)
        cv2.imwrite(str(folder / f"shapes-{seed}.png"), image[..., ::-1])
    return sorted(map(str, folder.iterdir()))


def _curve(report: ParetoReport, menu: StitchMenu, selection: Selection) -> go.Figure:
    """The report's picture with a ring around the stitch that was chosen, on axes that stay."""
    figure = pareto_figure([report], menu.metric)
    of_report = next(r for r in report.stitches if r.id == selection.stitch.id)
    figure.add_scatter(
        x=[of_report.macs / 1e9],
        y=[selection.score],
        mode="markers",
        marker=dict(symbol="circle-open", size=24, color="#D55E00", line=dict(width=4)),
        name=f"chosen: stitch {selection.stitch.id}",
    )
    gflops, scores = [r.macs / 1e9 for r in report.stitches], list(menu.scores.values())
    figure.update_layout(
        height=CURVE,
        margin=dict(l=50, r=10, t=10, b=40),
        xaxis_range=_around(gflops),
        yaxis_range=_around(scores),
        legend_font_size=10,
    )
    return figure


def _around(values: list[float]) -> list[float]:
    """A range of an axis with room at both ends, also for the ring."""
    room = 0.12 * (max(values) - min(values)) or 1.0
    return [min(values) - room, max(values) + room]
