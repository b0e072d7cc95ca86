"""Run by tests in a fresh process: predict with files alone, where mmsn cannot be imported.

python without_mmsn.py FOLDER loads FOLDER/config.py and model.pth with mmseg; python
without_mmsn.py FILE.pt2 loads an exported program with PyTorch alone. Reads images.pt, and writes
outputs.pt, both lists of tensors, beside what it loads.
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


def main():
    path = Path(sys.argv[1])
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        try:
            import torchvision  # noqa: F401
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            keep = declare_torchvision_operators()  # noqa: F841
        from mmseg.apis import init_model

        model = init_model(str(folder / "config.py"), str(folder / "model.pth"), device="cpu")

        def run(image):
            meta = dict(img_shape=image.shape[2:], ori_shape=image.shape[2:])
            return model.inference(image, [meta] * len(image))
    else:
        run = torch.export.load(path).module()
    with torch.no_grad():
        outputs = [run(image) for image in torch.load(folder / "images.pt", weights_only=True)]
    torch.save(outputs, folder / "outputs.pt")
    assert not any(name.startswith("mmsn.") for name in sys.modules)
    if not path.is_dir():
        assert not any(name.startswith(("mmseg", "mmengine", "timm")) for name in sys.modules)


main()
