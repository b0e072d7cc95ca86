"""A page to try a budget on: an image, a slider, the painted classes, and what it took.

Needs ``pip install "mmsn[demo]"``. Every request chooses its stitch for itself, so that visitors
with different budgets share one set of weights.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go

from mmsn.deploy.infer import paint
from mmsn.deploy.menu import Selection, StitchMenu
from mmsn.deploy.predictor import Predictor
from mmsn.evaluation import ParetoReport, pareto_figure


def build_page(model: Any, report: ParetoReport | None = None) -> gr.Blocks:
    """The page for a model of ``open_segmentor``; a report adds its curve with the chosen point."""
    predictor = Predictor.of(model, report)
    menu = predictor.menu
    assert menu is not None
    scored = [i for i in menu.macs if not menu.scores or i in menu.scores]
    most = max(menu.macs.values())
    lowest = math.ceil(100 * min(menu.macs[i] for i in scored) / most)
    one_at_a_time = threading.Lock()  # parallel passes would distort the measured times

    def answer(image: np.ndarray | None, percent: float) -> tuple[Any, str, Any]:
        with menu.use(f"{percent}%") as selection:
            curve = _curve(report, menu, selection) if report else None
            if image is None:
                return None, str(selection), curve
            with one_at_a_time:
                start = time.perf_counter()
                painted = paint(predictor, image)
                ms = 1e3 * (time.perf_counter() - start)
        return painted, f"{ms:.0f} ms measured: {selection}", curve

    with gr.Blocks(title="mmsn", analytics_enabled=False) as page:
        gr.Markdown("# One checkpoint, any budget")
        with gr.Row():
            image = gr.Image(label="image", type="numpy", sources=["upload", "clipboard"])
            painted = gr.Image(label="classes", type="numpy", format="png")
        percent = gr.Slider(
            lowest,
            100,
            value=100,
            step=1,
            label=f"budget: percent of {most / 1e9:.4g} GFLOPs (multiply-accumulates)",
        )
        text = gr.Markdown(elem_id="chosen")
        curve = gr.Plot(label="what was measured", visible=report is not None)
        outputs = [painted, text, curve]
        for event in (image.change, percent.change, page.load):
            event(
                answer,
                [image, percent],
                outputs,
                trigger_mode="always_last",
                show_progress="hidden",
            )
    return page


def _curve(report: ParetoReport, menu: StitchMenu, selection: Selection) -> go.Figure:
    """The report's picture with a ring around the stitch that was chosen."""
    figure = pareto_figure([report], menu.metric)
    of_report = next(r for r in report.stitches if r.id == selection.stitch.id)
    figure.add_scatter(
        x=[of_report.macs / 1e9],
        y=[selection.score],
        mode="markers",
        marker=dict(symbol="circle-open", size=24, color="#D55E00", line=dict(width=4)),
        name=f"chosen: stitch {selection.stitch.id}",
    )
    figure.update_layout(height=420)
    return figure
