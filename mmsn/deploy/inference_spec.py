"""How a segmentor is run on an image, as data: what a config says and an exported file carries.

Preprocessing (test scale, color order, normalization, padding), windows, and what the channels of
the output mean. ``mmsn.deploy.Predictor`` follows it for every backend, and ``export`` writes it
into the file as JSON, so that a file alone gives the labels that its config gives.

Left out on purpose: test pipelines that do more than resize, and test-time augmentation. The former
are refused in one line, because a file could not carry them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from mmengine.config import Config
from mmseg.models.segmentors import DepthEstimator as MmsegDepthEstimator

from mmsn.errors import UserError
from mmsn.models import StitchedBackbone
from mmsn.models.multi_task import MultiTaskSegmentor

# What a test pipeline may hold beside Resize: none of it changes the pixels.
_NEUTRAL = ("Load", "Pack")
_RESIZE_OPTIONS = {"type", "scale", "keep_ratio", "interpolation", "backend", "_scope_"}
FORMAT = 2  # of the JSON; increased when readers of the old one would fail


@dataclass(frozen=True)
class InferenceSpec:
    """Everything between the pixels of an image and its labels, except the network.

    Args:
        mean: of each channel, in the order that the network reads.
        std: likewise.
        bgr_to_rgb: the network reads RGB; otherwise it reads BGR.
        scale: mmseg's (width, height) to which test images are resized, or None.
        keep_ratio: fit the image into ``scale`` (its longer side into the larger number, its
            shorter side into the smaller one) instead of stretching it.
        size_divisor: pad below and right to a multiple of it, after the normalization.
        pad_val: with this value.
        mode: one pass over the whole image, or a mean over windows.
        crop_size: (height, width) of a window; None in mode "whole".
        stride: (height, width) between windows; None in mode "whole".
        flip: average with the mirrored image, as depth models may.
        align_corners: of every resize of the output.
        num_classes: channels of the output that are logits; 0 for a model of depth alone.
        threshold: of the probability, where one channel stands for two classes.
        max_depth: in meters; None without a depth channel, which is the last one.
        classes: names, or None.
        palette: one RGB color per class, or None.
        stitch: id of the stitch, in a file of one stitch.
        image_size: (height, width) of the only images that a file takes; None where any will do.
        macs: of that stitch, for one image of the training crop's size, by which budgets are
            checked; None where ``export`` did not count them.
        params: of that stitch; likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr_to_rgb: bool
    scale: tuple[int, int] | None
    keep_ratio: bool
    size_divisor: int
    pad_val: float
    mode: Literal["whole", "slide"]
    crop_size: tuple[int, int] | None
    stride: tuple[int, int] | None
    flip: bool
    align_corners: bool
    num_classes: int
    threshold: float | None
    max_depth: float | None
    classes: tuple[str, ...] | None = None
    palette: tuple[tuple[int, ...], ...] | None = None
    stitch: int | None = None
    image_size: tuple[int, int] | None = None
    macs: int | None = None
    params: int | None = None

    @classmethod
    def of(cls, model: Any) -> InferenceSpec:
        """Read it from a segmentor of ``open_segmentor`` or mmseg's ``init_model``.

        Raises:
            UserError: a test pipeline or a preprocessor that does what is left out here, or a
                model without its config.
        """
        if getattr(model, "cfg", None) is None:
            raise UserError("the model has no cfg: open it with mmsn.models.open_segmentor")
        config, head, test_cfg = model.cfg, model.decode_head, model.test_cfg
        prepare = config.model.get("data_preprocessor") or {}
        scale, keep_ratio = _resize_of(config)
        padding = prepare.get("test_cfg") or {}
        if padding.get("size") is not None:
            raise UserError(
                f"data_preprocessor.test_cfg has size {padding['size']}, but only size_divisor is "
                "supported here: resize in the test pipeline"
            )
        slides = test_cfg.get("mode", "whole") == "slide"
        is_depth = isinstance(model, MmsegDepthEstimator)
        only_depth = is_depth and not isinstance(model, MultiTaskSegmentor)
        regressor = getattr(model, "depth_head", head)
        meta = getattr(model, "dataset_meta", None) or {}
        backbone = model.backbone
        return cls(
            # Without mean and std, mmseg does not normalize.
            mean=_numbers(prepare.get("mean") or [0] * 3),
            std=_numbers(prepare.get("std") or [1] * 3),
            # mmseg treats the two alike: both swap the channels that mmcv reads as BGR.
            bgr_to_rgb=bool(prepare.get("bgr_to_rgb") or prepare.get("rgb_to_bgr")),
            scale=scale,
            keep_ratio=keep_ratio,
            size_divisor=padding.get("size_divisor") or 1,
            pad_val=prepare.get("pad_val", 0),
            mode="slide" if slides else "whole",
            crop_size=_pair(test_cfg.crop_size) if slides else None,
            stride=_pair(test_cfg.stride) if slides else None,
            flip=is_depth and bool(test_cfg.get("flip", False)),
            align_corners=bool(model.align_corners),
            num_classes=0 if only_depth else head.out_channels,
            threshold=None if only_depth else getattr(head, "threshold", None),
            max_depth=float(getattr(regressor, "max_depth", 10.0)) if is_depth else None,
            classes=tuple(meta["classes"]) if meta.get("classes") else None,
            palette=tuple(map(tuple, meta["palette"])) if meta.get("palette") else None,
            stitch=backbone.stitch.id if isinstance(backbone, StitchedBackbone) else None,
        )

    def for_file(self, image_size: tuple[int, int] | None) -> InferenceSpec:
        """The same for a file that takes images of one size; None if it takes any size.

        In mode "slide", windows have the size of the file, and the stride changes in proportion.
        """
        if image_size is None or self.crop_size is None or self.stride is None:
            return replace(self, image_size=image_size)
        stride = [
            max(1, min(new, round(step * new / old)))
            for step, old, new in zip(self.stride, self.crop_size, image_size, strict=True)
        ]
        return replace(self, image_size=image_size, crop_size=image_size, stride=_pair(stride))

    def test_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image at test scale, as mmcv computes it."""
        if self.scale is None:
            return height, width
        if not self.keep_ratio:
            return self.scale[1], self.scale[0]
        factor = min(
            max(self.scale) / max(height, width),
            min(self.scale) / min(height, width),
        )
        # Half is rounded up, as in mmcv.
        return int(height * factor + 0.5), int(width * factor + 0.5)

    def to_metadata(self) -> dict[str, str]:
        """JSON by name, as an ONNX file stores it."""
        return {
            name: json.dumps(value) for name, value in (asdict(self) | {"mmsn": FORMAT}).items()
        }

    @classmethod
    def from_metadata(cls, texts: Mapping[str, str], source: str) -> InferenceSpec:
        """Read what ``to_metadata`` wrote into the file ``source``.

        Raises:
            UserError: a file without it, or with that of another version.
        """
        names = [field.name for field in fields(cls)]
        try:
            version = json.loads(texts["mmsn"])
            if version != FORMAT:
                raise UserError(f"version {version!r}, not {FORMAT!r}")
            values = {name: _frozen(json.loads(texts[name])) for name in names}
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{source!r} does not say how images are prepared for it ({error!r}): export it "
                "again with this version of mmsn"
            ) from None
        return cls(**values)


def _resize_of(config: Config) -> tuple[tuple[int, int] | None, bool]:
    """Test scale as mmseg's (width, height), and whether the aspect ratio is kept."""
    data = (config.get("test_dataloader") or {}).get("dataset", {})
    # mmseg's inference reads this variable; a dataset may have another pipeline, with labels.
    pipeline = config.get("test_pipeline") or data.get("pipeline") or ()
    scale, keep_ratio = None, False
    for step in pipeline:
        kind = str(step["type"]).rpartition(".")[2]
        if kind.startswith(_NEUTRAL):
            continue
        strange = sorted(set(step) - _RESIZE_OPTIONS)
        plain = (step.get("interpolation", "bilinear"), step.get("backend", "cv2"))
        if kind != "Resize" or strange or plain != ("bilinear", "cv2") or scale is not None:
            raise UserError(
                f"the test pipeline has {kind}({', '.join(f'{k}={v}' for k, v in step.items())}), "
                "but a predictor can only resize, once and bilinearly, to a scale: change "
                "test_pipeline"
            )
        scale, keep_ratio = _pair(step["scale"]), bool(step.get("keep_ratio", False))
    return scale, keep_ratio


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
