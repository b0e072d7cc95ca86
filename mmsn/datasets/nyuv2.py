"""NYUv2 with the 40 classes of Gupta et al. (CVPR 2013), indoor scenes of 640 x 480 pixels.

`nyuv2_convert.py` makes the files from the official ones. Depth is in `nyuv2_depth.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset

from mmsn.errors import MissingFile, UserError
from mmsn.registry import DATASETS

# Names and order of the official `className`, including the spelling 'refridgerator', because other
# tools look classes up by these names.
CLASSES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow"),
    *("mirror", "floor mat", "clothes", "ceiling", "books", "refridgerator", "television"),
    *("paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand", "toilet"),
    *("sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)


def bit_palette(num_classes: int, first: int = 1) -> list[list[int]]:
    """Distinct RGB colors for `num_classes` consecutive indices from `first` on.

    The rule of PASCAL VOC: bits 0, 1, 2 of the index become the highest bits of red, green, blue,
    bits 3, 4, 5 the next ones, and so on. Index 0 is black, so labels start at 1.
    """
    if not 0 <= first <= first + num_classes <= 256:
        raise UserError(f"indices {first}..{first + num_classes - 1} do not fit in 0..255")
    return [
        [sum((i >> (3 * k + c) & 1) << (7 - k) for k in range(3)) for c in range(3)]
        for i in range(first, first + num_classes)
    ]


@DATASETS.register_module()
class NYUv2SegDataset(BaseSegDataset):
    """NYUv2 as a semantic segmentation dataset.

    Modifications of BaseSegDataset: classes and palette, and `reduce_zero_label` is on, because
    label 0 means unlabeled and 1..40 are the classes. For a copy with labels 0..39, turn it off.
    If label 39 of such a copy contains both `otherprop` and unlabeled pixels, also exclude that
    class with `metainfo=dict(classes=NYUv2SegDataset.METAINFO["classes"][:39])`: its pixels become
    255.

    Files: `<data_prefix.img_path>/<name><img_suffix>`, `<data_prefix.seg_map_path>/<name>.png`
    with one `<name>` per line of `ann_file`.
    """

    METAINFO = {"classes": CLASSES, "palette": bit_palette(len(CLASSES))}
    CONVERTER = "nyuv2_seg.py nyu_depth_v2_labeled.mat splits.mat"  # and its inputs

    def __init__(
        self,
        img_suffix: str = ".png",
        seg_map_suffix: str = ".png",
        reduce_zero_label: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images.

        Raises MissingFile if the list of the split is missing, and UserError if it is not text or
        names no image.
        """
        if self.ann_file and not Path(self.ann_file).is_file():
            raise MissingFile(
                f"{self.ann_file} does not exist; make the dataset with `python "
                f"tools/dataset_converters/{self.CONVERTER} --out "
                f"{self.data_root or 'data/nyuv2'}`, or set data_root"
            )
        try:
            data_list: list[dict[str, Any]] = super().load_data_list()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.ann_file} is not a list of names ({error}); make the dataset again"
            ) from error
        if self.ann_file and not data_list:
            raise UserError(f"{self.ann_file} names no image; make the dataset again")
        return data_list
