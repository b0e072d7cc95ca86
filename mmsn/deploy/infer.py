"""Painting predictions, classes or depth: one image, a folder of them, or a video.

Finished files are kept if the same command would paint the same. What each was
painted with is in ``infer.jsonl`` beside them, one line per file: a changed checkpoint, config,
stitch or input, or a painted file that was edited, is painted again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmsn.deploy.budget import Budget
from mmsn.deploy.predictor import Prediction, Predictor, read_image
from mmsn.errors import UserError
from mmsn.files import whole_file

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
RECORD = "infer.jsonl"


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


class PaintRecord:
    """What the painted files of a folder were made of, so that a changed setting repaints them.

    Args:
        folder: of painted files.
        made_of: what the pixels depend on besides the input, by name.
    """

    def __init__(self, folder: str | Path, made_of: Mapping[str, str | int]) -> None:
        self.path, self.made_of = Path(folder) / RECORD, dict(made_of)
        self._lines: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._lines[entry["file"]] = entry  # the last line of a file holds
                except (ValueError, TypeError, KeyError):
                    continue  # half a line, of a run that was killed

    def is_current(self, source: Path, target: Path) -> bool:
        """Whether painting this file again would give what is there."""
        return target.is_file() and self._lines.get(target.name) == self._entry(source, target)

    def add(self, source: Path, target: Path) -> None:
        """Record a file that has just been painted."""
        entry = self._lines[target.name] = self._entry(source, target)
        # Appended, so that a kill costs at most the last line.
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def _entry(self, source: Path, target: Path) -> dict[str, Any]:
        # The painted file's own time: a run that is killed between painting and noting leaves the
        # line of an earlier painting, which does not describe the new one.
        return dict(file=target.name, source=_stamp(source), painted=_stamp(target), **self.made_of)


def _stamp(file: Path) -> list[int]:
    """Size and time of the last change."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def paint(
    predictor: Predictor,
    image: np.ndarray,
    budget: str | int | Budget | None = None,
    opacity: float = 0.5,
) -> np.ndarray:
    """An (H, W, 3) uint8 RGB image overlaid with its prediction; see ``overlay``."""
    return overlay(predictor, image, predictor.predict(image, budget), opacity)


def overlay(
    predictor: Predictor, image: np.ndarray, found: Prediction, opacity: float = 0.5
) -> np.ndarray:
    """The image with the classes' colors over it, or else those of depth.

    Depth goes from violet at 0 m over green to yellow at the head's ``max_depth``.
    """
    if found.labels is not None:
        colors = color_classes(found.labels, predictor.palette, image)
    else:
        assert found.depth is not None
        assert predictor.spec.max_depth is not None
        gray = np.round(255 * (found.depth / predictor.spec.max_depth).clip(0, 1)).astype(np.uint8)
        colors = cv2.applyColorMap(gray, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    return np.round((1 - opacity) * image + opacity * colors).astype(np.uint8)


def color_classes(labels: np.ndarray, palette: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB colors; a label of no class, such as 255, leaves the image as it is."""
    known = labels < len(palette)
    return np.where(known[..., None], palette[np.where(known, labels, 0)], image)


def paint_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    budget: str | int | Budget | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Paint an image, or every frame of a video, into a file that is written whole or not at all.

    Raises:
        UserError: a file that OpenCV cannot read or write.
    """
    with whole_file(target) as part:
        if source.suffix.lower() in VIDEOS:
            _paint_video(predictor, source, part, budget, on_frame)
            return
        painted = paint(predictor, read_image(source), budget)
        if not cv2.imwrite(str(part), painted[..., ::-1]):  # OpenCV writes BGR
            raise UserError(f"{str(target)!r} cannot be written: end its name with .png")
        on_frame()


def _paint_video(
    predictor: Predictor,
    source: Path,
    part: Path,
    budget: str | int | Budget | None,
    on_frame: Callable[[], None],
) -> None:
    video = cv2.VideoCapture(str(source))
    writer = None
    try:
        # Some containers do not store the rate.
        rate = video.get(cv2.CAP_PROP_FPS) or 25.0
        for frame in _frames(video):
            painted = paint(predictor, frame[..., ::-1], budget)[..., ::-1]
            # Opened at the first frame, because the size in the header may be wrong.
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                if not writer.isOpened():
                    raise UserError(
                        f"{str(source)!r} cannot be painted: this OpenCV has no mp4 encoder; "
                        "install opencv-python-headless, or give single frames"
                    )
            # OpenCV does not accept the view with reversed channels.
            writer.write(np.ascontiguousarray(painted))
            on_frame()
    finally:
        video.release()
        if writer is not None:
            writer.release()
    if writer is None:
        raise UserError(f"{str(source)!r} is not a video that OpenCV can read: leave it out")


def _frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """(H, W, 3) BGR frames."""
    while True:
        there, frame = video.read()
        if not there:
            return
        yield frame


def count_frames(source: Path) -> int:
    """Frames of a video according to its header, which may be wrong; 1 for an image."""
    if source.suffix.lower() not in VIDEOS:
        return 1
    video = cv2.VideoCapture(str(source))
    try:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        video.release()
