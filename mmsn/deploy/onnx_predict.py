"""Labels of an image from an exported model, with NumPy, Pillow and ONNX Runtime alone:
python predict.py model.onnx street.jpg --out labels.png"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def resize(image: np.ndarray, size: tuple[int, ...], align_corners: bool = False) -> np.ndarray:
    """(..., H, W) to (..., h, w), bilinearly: floats as PyTorch, integers as OpenCV, in 11 bits."""
    floats = image.dtype == np.float32
    for axis, new, old in ((-1, size[1], image.shape[-1]), (-2, size[0], image.shape[-2])):
        at = (np.arange(new) + 0.5) * (1 / (new / old)) - 0.5
        at = np.arange(new) * ((old - 1) / max(new - 1, 1)) if align_corners else np.float32(at)
        at = np.clip(at, 0, old - 1) if axis == -1 or floats else at  # OpenCV blends edge rows
        low = np.floor(at).astype(int)
        share = (at - low).astype(np.float32).reshape((-1, 1) if axis == -2 else -1)
        part = np.rint(2048 * share).astype(int)
        a, b = (np.take(image, np.clip(x, 0, old - 1), axis) for x in (low, low + 1))
        if floats:
            image = a + (b - a) * share
        elif axis == -1:
            image = a * (2048 - part) + b * part
        else:
            image = (((a >> 4) * (2048 - part) >> 16) + ((b >> 4) * part >> 16) + 2) >> 2
    return image


class Predictor:
    """`Predictor("model.onnx")(image)` is an (H, W) array of labels, or of meters in float32."""

    def __init__(self, path: str, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=list(providers))
        facts = self.session.get_modelmeta().custom_metadata_map
        assert "num_classes" in facts, f"{path} was not exported by mmsn."
        self.spec = {name: json.loads(text) for name, text in facts.items()}

    def __call__(self, image: np.ndarray | Image.Image) -> np.ndarray:
        """`image` is (H, W, 3) uint8 in RGB, or a PIL image."""
        spec, image = self.spec, np.asarray(image)
        full = height, width = image.shape[:2]
        if spec["scale"]:
            factor = min(np.divide(sorted(spec["scale"]), sorted(full)))
            height, width = (int(side * factor + 0.5) for side in full)
            width, height = (width, height) if spec["keep_ratio"] else spec["scale"]
        image = image.astype(int).transpose(2, 0, 1)[:: 1 if spec["bgr_to_rgb"] else -1]
        pixels = resize(image, (height, width)).astype(np.float32)
        mean, std = (np.array(spec[name], np.float32)[:, None, None] for name in ("mean", "std"))
        pad = [(0, 0), *((0, -side % spec["size_divisor"]) for side in (height, width))]
        pixels = np.pad((pixels - mean) / std, pad, constant_values=spec["pad_val"])
        output = self.windows(pixels)
        if spec["flip"]:
            output = (output + self.windows(pixels[..., ::-1])[..., ::-1]) / 2
        output, count = output[:, :height, :width], spec["num_classes"]
        if count < 2:
            found = resize(output[0], full, spec["align_corners"])
            return (np.tanh(found / 2) / 2 + 0.5 > spec["threshold"]) * 1 if count else found
        labels, best = np.zeros(full, np.int64), np.float32(-np.inf)
        for label, small in enumerate(output[:count]):  # one at a time, which saves memory
            logits = resize(small, full, spec["align_corners"])
            labels[logits > best] = label
            best = np.maximum(best, logits)
        return labels

    def windows(self, pixels: np.ndarray) -> np.ndarray:
        """(3, H, W) to (C, H, W) channels: one pass, or the mean over sliding windows."""
        size, fixed = pixels.shape[1:], self.spec["image_size"]
        crop = self.spec["crop_size"] or size
        axes = zip(size, crop, self.spec["stride"] or size, strict=True)
        y_ends, x_ends = ([min(e, n) for e in range(c, max(n, c) + s, s)] for n, c, s in axes)
        sums = np.zeros((self.session.get_outputs()[0].shape[1] + 1, *size), np.float32)
        for y, x in ((y, x) for y in y_ends for x in x_ends):
            area = (slice(None), slice(max(y - crop[0], 0), y), slice(max(x - crop[1], 0), x))
            window = np.ascontiguousarray(pixels[area])[None]
            if fixed and list(window.shape[2:]) != fixed:
                raise SystemExit(f"error: the model takes {fixed}, not a {window.shape[2:]} window")
            sums[:-1][area] += self.session.run(None, {"input": window})[0][0]
            sums[-1:][area] += 1
        return sums[:-1] / sums[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs=2, metavar="FILE", help="the model, then the image")
    parser.add_argument("--out", default="labels.png", help="default: labels.png; depth in mm")
    args = parser.parse_args()
    try:
        predictor = Predictor(args.files[0])
    except Exception as error:  # ONNX Runtime has a class for each fault
        parser.exit(2, f"error: {' '.join(str(error).split())} Export or copy it again.\n")
    found = predictor(ImageOps.exif_transpose(Image.open(args.files[1])).convert("RGB"))
    found = (1000 * found).round() if found.dtype == np.float32 else found
    picture = Image.fromarray(found.astype(np.uint16 if found.max() > 255 else np.uint8))
    if picture.mode == "L" and predictor.spec["palette"]:
        picture.putpalette(np.ravel(predictor.spec["palette"]).tolist())
    picture.save(args.out)
