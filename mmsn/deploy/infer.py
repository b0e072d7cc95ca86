"""Painting what a model sees, classes or depth: one image, a folder of them, or a video.

Which stitch runs is chosen outside, by ``StitchMenu.use`` or ``set``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmseg.apis import inference_model

from mmsn.errors import UserError
from mmsn.files import whole_file

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def find_inputs(path: str | Path) -> tuple[Path, ...]:
    """The images and videos of a folder, sorted, or the one file.

    Raises:
        UserError: nothing there that can be read.
    """
    path = Path(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    known = tuple(f for f in files if f.is_file() and f.suffix.lower() in IMAGES + VIDEOS)
    if not known:
        raise UserError(
            f"{str(path)!r} holds no image or video: give a file or a folder with "
            f"{', '.join(IMAGES + VIDEOS)}"
        )
    return known


def find_outputs(inputs: Iterable[Path], folder: str | Path) -> dict[Path, Path]:
    """Where the painted copy of each input goes: .png or .mp4, under the input's whole name."""
    return {
        file: Path(folder) / (file.name + (".mp4" if file.suffix.lower() in VIDEOS else ".png"))
        for file in inputs
    }


def paint(model: Any, image: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """An (H, W, 3) BGR image of uint8 with the classes' colors over it, or else those of depth.

    Depth goes from violet at 0 m over green to yellow at the head's ``max_depth``.
    """
    found = inference_model(model, image)
    if "pred_sem_seg" in found:
        labels = found.pred_sem_seg.data[0].cpu().numpy()
        palette = _palette(model)[:, ::-1].astype(np.float32)  # RGB to BGR
        # a label of no class, such as 255, is left as it is
        known = labels < len(palette)
        colors = np.where(known[..., None], palette[np.where(known, labels, 0)], image)
    else:
        share = found.pred_depth_map.data[0].float().cpu().numpy() / model.decode_head.max_depth
        gray = np.round(255 * share.clip(0, 1)).astype(np.uint8)
        colors = cv2.applyColorMap(gray, cv2.COLORMAP_VIRIDIS)
    return np.round((1 - opacity) * image + opacity * colors).astype(np.uint8)


def _palette(model: Any) -> np.ndarray:
    """(classes, 3) RGB colors of the model's dataset, or the same random ones in every run."""
    known = (getattr(model, "dataset_meta", None) or {}).get("palette")
    if known is not None:
        return np.asarray(known)
    return np.random.default_rng(0).integers(0, 256, (model.decode_head.num_classes, 3))


def paint_file(
    model: Any, source: Path, target: Path, on_frame: Callable[[], None] = lambda: None
) -> None:
    """Paint an image, or every frame of a video, into a file that is written whole or not at all.

    Raises:
        UserError: a file that OpenCV cannot read or write.
    """
    with whole_file(target) as part:
        if source.suffix.lower() in VIDEOS:
            _paint_video(model, source, part, on_frame)
            return
        image = cv2.imread(str(source), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f"{str(source)!r} is no image that OpenCV can read: leave it out")
        if not cv2.imwrite(str(part), paint(model, image)):
            raise UserError(f"{str(target)!r} cannot be written: end its name with .png")
        on_frame()


def _paint_video(model: Any, source: Path, part: Path, on_frame: Callable[[], None]) -> None:
    video = cv2.VideoCapture(str(source))
    writer = None
    try:
        rate = video.get(cv2.CAP_PROP_FPS) or 25.0
        for frame in _frames(video):
            painted = paint(model, frame)
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                if not writer.isOpened():
                    raise UserError(
                        f"{str(source)!r} cannot be painted: this OpenCV has no mp4 encoder; "
                        "install opencv-python-headless, or give single frames"
                    )
            writer.write(painted)
            on_frame()
    finally:
        video.release()
        if writer is not None:
            writer.release()
    if writer is None:
        raise UserError(f"{str(source)!r} is no video that OpenCV can read: leave it out")


def _frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        there, frame = video.read()
        if not there:
            return
        yield frame


def count_frames(source: Path) -> int:
    """Frames of a video as its header tells, which may be wrong; 1 for an image."""
    if source.suffix.lower() not in VIDEOS:
        return 1
    video = cv2.VideoCapture(str(source))
    try:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        video.release()
