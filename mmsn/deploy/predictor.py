"""From an image to labels at its size, whatever runs the network.

    predictor = Predictor.load("stitch25/")  # or "model.onnx", "model.pt2", or config, checkpoint
    labels = predictor("street.jpg")
    labels = Predictor.load(config, checkpoint)("street.jpg", budget="60%")

The pass over a window is the only thing that differs between backends. Resize, normalization,
windows and argmax are here, follow ``InferenceSpec``, and give bit for bit what mmseg's
``inference_model`` gives.

Left out on purpose: batches of images of different sizes, and painting (``mmsn.deploy.infer``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor
from torch.nn import functional as F

from mmsn.deploy.budget import Budget
from mmsn.deploy.exporting import SUFFIXES, open_exported
from mmsn.deploy.extraction import CONFIG, PLAIN_WEIGHTS, WEIGHTS
from mmsn.deploy.inference_spec import InferenceSpec
from mmsn.deploy.menu import Selection, StitchMenu, check_budget
from mmsn.errors import MissingFile, UserError
from mmsn.evaluation import ParetoReport
from mmsn.evaluation.latency import LatencyTable
from mmsn.models import StitchedBackbone, open_segmentor
from mmsn.models.label_prediction import (
    Box,
    Crop,
    ImageLogits,
    Target,
    head_pass,
    sliding_boxes,
)

Pass = Callable[[Tensor], Tensor]  # (1, 3, H, W) normalized pixels to (1, C, h, w) channels


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one image, at the image's size.

    ``labels`` are (H, W) int64, None for a model of depth alone; ``depth`` is (H, W) float32 in
    meters, None for a model of classes alone.
    """

    labels: np.ndarray | None
    depth: np.ndarray | None


class Predictor:
    """Labels, or depth, of images of any size.

    Several threads may call one predictor with different budgets.

    Args:
        run: the pass over a batch of one window.
        spec: how images are prepared, and what the channels are.
        device: where ``run`` wants its input.
        menu: to choose stitches from; None for a network of one stitch.
    """

    def __init__(
        self,
        run: Pass,
        spec: InferenceSpec,
        device: torch.device | str = "cpu",
        menu: StitchMenu | None = None,
    ) -> None:
        self.run, self.spec, self.device, self.menu = run, spec, torch.device(device), menu

    @classmethod
    def load(
        cls,
        source: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "cpu",
        report: ParetoReport | None = None,
        latency_table: LatencyTable | None = None,
    ) -> Predictor:
        """Open a model.

        Args:
            source: a folder of ``mmsn extract``, an ``.onnx`` or ``.pt2`` file of ``mmsn export``,
                or a config.
            checkpoint: of a config, and only of one.
            device: of a config or a folder; exported files run on the CPU.
            report: measured metrics that budgets are met by; see ``StitchMenu``.
            latency_table: for budgets in ms.

        Raises:
            MissingFile: no such file.
            UserError: a file of another kind, or a config without a checkpoint.
        """
        path = None if isinstance(source, Config) else Path(source)
        if path is not None and path.suffix in SUFFIXES:
            if checkpoint is not None or report is not None or latency_table is not None:
                raise UserError(
                    f"{str(path)!r} holds one stitch with its weights: leave out checkpoint, "
                    "report and latency table, or give the config instead of the file"
                )
            file = open_exported(path)
            return cls(file.run, InferenceSpec.from_metadata(file.metadata, str(path)))
        if path is not None and path.is_dir():
            source, checkpoint = _files_of(path, checkpoint)
        if checkpoint is None:
            name = source.filename if isinstance(source, Config) else str(source)
            raise UserError(
                f"config {name!r} is given without a checkpoint: give one, or the folder of an "
                f"extraction, or a file that ends with {' or '.join(SUFFIXES)}"
            )
        return cls.of(open_segmentor(source, checkpoint, device), report, latency_table)

    @classmethod
    def of(
        cls,
        model: Any,
        report: ParetoReport | None = None,
        latency_table: LatencyTable | None = None,
    ) -> Predictor:
        """The predictor of a segmentor that is in memory, of ``open_segmentor`` or mmseg.

        Raises:
            UserError: a report or a latency table of another model.
        """
        stitched = isinstance(model.backbone, StitchedBackbone)
        menu = StitchMenu(model, report, latency_table) if stitched else None
        device = next(model.parameters()).device
        return cls(head_pass(model), InferenceSpec.of(model), device, menu)

    def __call__(self, image: Any, budget: str | int | Budget | None = None) -> np.ndarray:
        """(H, W) int64 labels of an image at its size, or float32 meters of a model of depth.

        Args:
            image: a file, or (H, W, 3) uint8 pixels in RGB, as an array or a PIL image.
            budget: as ``StitchMenu.select`` takes it; by default the stitch that is set.

        Raises:
            UserError: not an image, or a budget that no stitch meets.
        """
        found = self.predict(image, budget)
        result = found.depth if found.labels is None else found.labels
        assert result is not None  # a network has classes, depth or both
        return result

    @torch.no_grad()
    def predict(self, image: Any, budget: str | int | Budget | None = None) -> Prediction:
        """Labels and depth, as far as the model gives them; arguments as in a call."""
        with self.use(budget):
            views = self._views(read_image(image))
        count, first = self.spec.num_classes, views[0]
        labels = depth = None
        if count == first.channels and len(views) == 1:
            labels = first.labels(self.spec.threshold)[0].long()
        # With depth or a mirrored view, channels are averaged before the argmax.
        elif count:
            logits = _mean(views, 0, count)[0]
            probable = logits[0].sigmoid() > (self.spec.threshold or 0) if count == 1 else None
            labels = logits.argmax(0) if probable is None else probable.long()
        if self.spec.max_depth is not None:
            depth = _mean(views, count, first.channels)[0, 0].float()
        return Prediction(*(None if x is None else x.cpu().numpy() for x in (labels, depth)))

    @torch.no_grad()
    def logits(self, image: Any, budget: str | int | Budget | None = None) -> np.ndarray:
        """(C, H, W) float32 channels at the image's size: logits, then meters if there is depth."""
        with self.use(budget):
            views = self._views(read_image(image))
        return _mean(views, 0, views[0].channels)[0].float().cpu().numpy()

    @contextmanager
    def use(self, budget: str | int | Budget | None) -> Iterator[Selection | None]:
        """Run the best stitch within a budget inside a ``with`` block; None changes nothing.

        An exported file has one stitch, which meets every budget that is not below its cost.
        """
        if budget is None:
            yield None
            return
        if self.menu is None:
            spec = self.spec
            if spec.stitch is None or spec.macs is None or spec.params is None:
                raise UserError(
                    f"budget {budget} is given, but the cost of this model is not known: leave it "
                    "out, or load the config and the checkpoint of the supernet"
                )
            check_budget(budget, spec.stitch, spec.macs, spec.params)
            yield None
            return
        with self.menu.use(budget) as selection:
            yield selection

    @property
    def palette(self) -> np.ndarray:
        """(classes, 3) RGB colors of the classes, or the same random ones in every run."""
        if self.spec.palette is not None:
            return np.asarray(self.spec.palette)
        count = max(2, self.spec.num_classes)
        return np.random.default_rng(0).integers(0, 256, (count, 3))

    def prepare(self, image: np.ndarray) -> tuple[Tensor, tuple[int, int, int, int]]:
        """(H, W, 3) RGB pixels to (1, 3, h, w) normalized ones, and how they are padded.

        Padding is left, right, top and bottom.
        """
        spec = self.spec
        height, width = spec.test_size(*image.shape[:2])
        if (height, width) != image.shape[:2]:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        # The pixels are RGB here; in mmseg they are BGR until its preprocessor swaps them.
        if not spec.bgr_to_rgb:
            image = image[..., ::-1]
        pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).to(self.device).float()
        mean, std = (pixels.new_tensor(x).view(-1, 1, 1) for x in (spec.mean, spec.std))
        pixels = (pixels - mean) / std
        bottom, right = -height % spec.size_divisor, -width % spec.size_divisor
        pixels = F.pad(pixels[None], (0, right, 0, bottom), value=spec.pad_val)
        return pixels, (0, right, 0, bottom)

    def windows(self, image: Any) -> list[Tensor]:
        """The (1, 3, h, w) inputs that an image gives: one, or its sliding windows."""
        pixels, _ = self.prepare(read_image(image))
        return [pixels if box is None else pixels[(..., *box.area)] for box in self._boxes(pixels)]

    def _boxes(self, pixels: Tensor) -> list[Box | None]:
        if self.spec.mode != "slide":
            return [None]
        return list(sliding_boxes((pixels.shape[2], pixels.shape[3]), self.spec))

    def _views(self, image: np.ndarray) -> list[ImageLogits]:
        """The channels of the image, and for ``spec.flip`` those of the mirrored one."""
        pixels, padding = self.prepare(image)
        views = []
        size = (image.shape[0], image.shape[1])
        views.append(self._channels(pixels, Target(padding, None, size)))
        if self.spec.flip:
            left, right, top, bottom = padding
            # Padding on the right of an image is on the left of its mirror image.
            mirrored = Target((right, left, top, bottom), "horizontal", size)
            views.append(self._channels(pixels.flip(-1), mirrored))
        return views

    def _channels(self, pixels: Tensor, target: Target) -> ImageLogits:
        boxes, count, crops = self._boxes(pixels), None, []
        for box in boxes:
            if box is not None:  # how many windows cover each pixel, which divides their sum
                count = pixels.new_zeros(pixels.shape[2:]) if count is None else count
                count[box.area] += 1
        for place in boxes:
            window = pixels if place is None else pixels[(..., *place.area)]
            shape = (window.shape[2], window.shape[3])
            fixed = self.spec.image_size
            if fixed is not None and fixed != shape:
                raise UserError(
                    f"an image of {target.size[0]}x{target.size[1]} gives a window of "
                    f"{shape[0]}x{shape[1]} at test scale, but the file takes only "
                    f"{fixed[0]}x{fixed[1]}: export it with --dynamic-size"
                )
            crops.append(Crop(self.run(window), shape, place))
        return ImageLogits(crops, count, 0, target, self.spec.align_corners, pixels.dtype)


def _mean(views: list[ImageLogits], start: int, stop: int) -> Tensor:
    total = views[0].full(start, stop)
    for view in views[1:]:
        total = total + view.full(start, stop)
    return total / len(views)


def read_image(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB pixels of a file, of a PIL image or of such an array.

    Raises:
        MissingFile: no such file.
        UserError: something else.
    """
    if isinstance(image, (str, Path)):
        if not Path(image).exists():
            raise MissingFile(f"image {str(image)!r} does not exist: give an image file")
        pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
        if pixels is None:
            raise UserError(f"{str(image)!r} is not an image that OpenCV can read: leave it out")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if hasattr(image, "convert"):  # a PIL image, which need not be installed
        image = image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UserError(
            f"an image of shape {array.shape} and type {array.dtype} is not allowed: give a file, "
            "or (H, W, 3) uint8 pixels in RGB"
        )
    return array


def _files_of(folder: Path, checkpoint: str | Path | None) -> tuple[Path, Path]:
    """Config and weights of the folder of an extraction."""
    weights = [folder / name for name in (WEIGHTS, PLAIN_WEIGHTS) if (folder / name).is_file()]
    if checkpoint is not None or not weights or not (folder / CONFIG).is_file():
        fault = "a checkpoint is given with it" if checkpoint is not None else "it is none"
        raise UserError(
            f"folder {str(folder)!r} is not taken for an extraction, because {fault}: give a "
            f"folder with {CONFIG} and {WEIGHTS} alone, or a config and a checkpoint"
        )
    return folder / CONFIG, weights[0]
