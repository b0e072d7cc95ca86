"""Image, ground truth, prediction and error side by side, for a few images and some stitches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray

from mmsn.errors import UserError
from mmsn.evaluation.depth_metric import DepthMetric
from mmsn.evaluation.metric_names import shown
from mmsn.files import whole_file
from mmsn.models import segmentor_macs, stitched_backbone

INVALID = "0.75"  # a gray, which neither color map contains
DEPTH_COLORS, ERROR_COLORS = "viridis", "inferno"  # both perceptually uniform
PERCENTILE = 99  # of predictions and errors, so that a few pixels do not hide all the others


@dataclass(frozen=True)
class Prediction:
    """One stitch's depth ``(H, W)`` in meters, and its metrics on that image."""

    name: str
    meters: NDArray[Any]
    metrics: dict[str, float]


@torch.no_grad()
def predict_depth(
    model: Any, sample: dict[str, Any], stitches: Sequence[int], metric: DepthMetric
) -> list[Prediction]:
    """Predict one sample of a test dataset by some stitches.

    Args:
        model: that puts ``pred_depth_map`` into what ``test_step`` gives, with a StitchedViT.
        sample: what the dataset gives for an index, with ``gt_depth_map``.
        stitches: ids.
        metric: scores the predictions, one image at a time.
    """
    backbone, found = stitched_backbone(model), []
    macs = segmentor_macs(model, backbone.img_size)
    for stitch in stitches:
        with backbone.use_stitch(stitch):
            (output,) = model.test_step(pseudo_collate([sample]))
        if "pred_depth_map" not in output:
            raise UserError(f"{type(model).__name__} predicts no depth; give a config that does")
        metric.results.clear()  # the figures of this prediction alone
        metric.process({}, [output.to_dict()])
        found.append(
            Prediction(
                f"stitch {stitch}, {macs[stitch] / 1e9:.4g} GFLOPs",
                output.pred_depth_map.data[0].float().cpu().numpy(),
                metric.compute_metrics(metric.results),
            )
        )
    return found


def draw_depth(
    image: NDArray[np.uint8],
    truth: NDArray[Any],
    valid: NDArray[np.bool_],
    predictions: Sequence[Prediction],
    path: str | Path,
) -> None:
    """Draw one row per prediction.

    Truth and predictions share a scale. It spans the valid truth and all but the most extreme
    hundredth of the predictions; what lies outside has the color of its end, and an arrow says so.
    Errors share one, too. Invalid pixels of the truth are gray in truth and error.

    Args:
        image: (H, W, 3), RGB.
        truth: (H, W) meters.
        valid: (H, W), where the truth counts.
        predictions: of one image.
        path: of the picture; its ending names the format, for example .png or .pdf.
    """
    from matplotlib.figure import Figure  # slow to load, and only pictures need it

    if not valid.any():
        raise UserError(f"{path}: the image has no valid depth to draw")
    # NaN takes the gray of invalid pixels, and drops out of the scales below.
    known = np.where(valid, truth, np.nan)
    errors = [np.abs(p.meters - known) for p in predictions]
    predicted = np.stack([p.meters for p in predictions])
    low = min(np.nanmin(known), np.nanpercentile(predicted, 100 - PERCENTILE))
    high = max(np.nanmax(known), np.nanpercentile(predicted, PERCENTILE))
    worst = max(np.nanpercentile(e, PERCENTILE) for e in errors)
    # Never empty, also for a constant map or a perfect prediction.
    depth_scale = dict(cmap=_colors(DEPTH_COLORS), vmin=low, vmax=max(high, low + 0.01))
    error_scale = dict(cmap=_colors(ERROR_COLORS), vmin=0, vmax=max(worst, 0.01))

    depth_ends = _extend(np.nanmin(predicted) < low, np.nanmax(predicted) > high)
    error_ends = _extend(False, any(np.nanmax(e) > worst for e in errors))

    height, width = truth.shape
    rows = len(predictions)
    size = (13.5, rows * (3.0 * height / width + 0.35))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    for row, prediction, error in zip(axes, predictions, errors, strict=True):
        scores = prediction.metrics
        # The same image and truth in every row, so that each row can be read alone.
        titles = (
            "image",
            "ground truth",
            prediction.name,
            f"rmse {shown(scores['rmse'])} m, d1 {shown(scores['d1'])}",
        )
        row[0].imshow(image)
        row[1].imshow(known, interpolation="nearest", **depth_scale)
        depth = row[2].imshow(prediction.meters, interpolation="nearest", **depth_scale)
        wrong = row[3].imshow(error, interpolation="nearest", **error_scale)
        for ax, title in zip(row, titles, strict=True):
            ax.set_title(title, fontsize=10)
            ax.set_axis_off()
        for ax, drawn, label, ends in (
            (row[2], depth, "depth (m)", depth_ends),
            (row[3], wrong, "absolute error (m)", error_ends),
        ):
            bar = ax.inset_axes((1.03, 0, 0.045, 1))  # as high as the map
            figure.colorbar(drawn, cax=bar, label=label, extend=ends, extendfrac=0.04)
    with whole_file(path) as part:
        figure.savefig(part, dpi=150, bbox_inches="tight", pad_inches=0.05)


def save_depth_pictures(
    model: Any,
    dataset: Any,
    indices: Sequence[int],
    stitches: Sequence[int],
    metric: DepthMetric,
    folder: str | Path,
) -> list[Path]:
    """Draw some images of a dataset into ``folder``; returns the files, named after the images."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in indices:
        sample = dataset[index]
        truth = sample["data_samples"].gt_depth_map.data[0]
        image_path = sample["data_samples"].img_path
        paths.append(folder / f"{Path(image_path).stem}.png")
        draw_depth(
            mmcv.imread(image_path, channel_order="rgb"),
            truth.numpy(),
            metric.valid(truth).numpy(),
            predict_depth(model, sample, stitches, metric),
            paths[-1],
        )
    return paths


def _colors(name: str) -> Any:
    import matplotlib

    return matplotlib.colormaps[name].with_extremes(bad=INVALID)


def _extend(below: bool, above: bool) -> str:
    """Which ends of a color bar get an arrow, in matplotlib's words."""
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
