"""Run by tests in a fresh process: predict with files alone, where mmsn cannot be imported.

Each argument is a folder, whose config.py and model.pth mmseg loads, or a .pt2 file, which PyTorch
alone loads. Reads images.pt, and writes outputs.pt, both lists of tensors, beside what it loads.
"""

import sys
from pathlib import Path

import torch

sys.modules["mmsn"] = None  # any import of it fails


def declare_torchvision_operators():
    """What a torchvision that fits its torch has, and the one beside a CPU torch may lack."""
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def from_folder(folder):
    from mmseg.apis import init_model

    model = init_model(str(folder / "config.py"), str(folder / "model.pth"), device="cpu")

    def run(image):
        meta = dict(img_shape=image.shape[2:], ori_shape=image.shape[2:])
        return model.inference(image, [meta] * len(image))

    return run


def main():
    paths = [Path(word) for word in sys.argv[1:]]
    if paths[0].is_dir():
        try:
            import torchvision  # noqa: F401
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            keep = declare_torchvision_operators()  # noqa: F841
    for path in paths:
        folder = path if path.is_dir() else path.parent
        run = from_folder(folder) if path.is_dir() else torch.export.load(path).module()
        with torch.no_grad():
            outputs = [run(image) for image in torch.load(folder / "images.pt", weights_only=True)]
        torch.save(outputs, folder / "outputs.pt")
    foreign = ("mmsn.",) if paths[0].is_dir() else ("mmsn.", "mmseg", "mmengine", "timm")
    assert not any(name.startswith(foreign) for name in sys.modules)


main()
