"""NYUv2 with depth in meters, alone or together with the 40 classes.

Pixels are read by mmseg's `LoadDepthAnnotation`, whose `depth_rescale_factor` converts values to
meters: 1e-3 for the 16-bit millimeters that the converters write, 10 / 255 for an 8-bit copy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.fileio import list_dir_or_file

from mmsn.errors import MissingFile, UserError
from mmsn.registry import DATASETS

from .nyuv2 import NYUv2SegDataset


@DATASETS.register_module()
class NYUv2DepthDataset(NYUv2SegDataset):
    """NYUv2 for depth estimation and, if `data_prefix` has `seg_map_path`, for segmentation too.

    Modifications of NYUv2SegDataset: samples have `depth_map_path`, and without `ann_file` all
    images below `img_path` are used, as in mmseg's layout of the raw training list.

    mmseg's NYUDataset reads only that layout: it silently ignores `ann_file`, its classes are 27
    kinds of rooms, and its samples lack keys that `LoadAnnotations` needs.

    Files: `<img_path>/<name><img_suffix>`, `<depth_map_path>/<name><depth_map_suffix>` and
    `<seg_map_path>/<name><seg_map_suffix>`, where a name may contain folders.
    """

    CONVERTER = "nyuv2_depth.py labeled nyu_depth_v2_labeled.mat splits.mat"

    def __init__(self, depth_map_suffix: str = ".png", **kwargs: Any) -> None:
        self.depth_map_suffix = depth_map_suffix
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images with their depth maps.

        Raises UserError for a missing prefix, and MissingFile if there are no images or if
        some have no depth map, for example after an interrupted conversion.
        """
        lacking = [k for k in ("img_path", "depth_map_path") if not self.data_prefix.get(k)]
        if lacking:
            raise UserError(
                f"data_prefix has no {' and no '.join(lacking)}; give the folders of the images "
                "and of the depth maps, for example img_path='images', depth_map_path='depths'"
            )
        images, depths = self.data_prefix["img_path"], self.data_prefix["depth_map_path"]
        if not self.ann_file and self.backend_args is None and not Path(images).is_dir():
            raise MissingFile(
                f"{images} is not a folder of images; make it with `python "
                f"tools/dataset_converters/nyuv2_depth.py raw nyu.zip --out {self.data_root}`, "
                "or set data_root"
            )
        data_list: list[dict[str, Any]] = super().load_data_list()
        if not data_list:
            raise MissingFile(
                f"{self.ann_file or images} has no image with suffix {self.img_suffix!r}; set "
                "img_suffix to that of the files"
            )
        # one listing of the folder instead of a query per image, which is slow on remote storage
        there = self._files(depths)
        lacking = []
        for info in data_list:
            name = info["img_path"][len(images) : -len(self.img_suffix)].lstrip("/" + os.sep)
            info["depth_map_path"] = os.path.join(depths, name + self.depth_map_suffix)
            if name + self.depth_map_suffix not in there:
                lacking.append(info["depth_map_path"])
        if lacking:
            raise MissingFile(
                f"{len(lacking)} of {len(data_list)} images have no depth map, the first "
                f"{lacking[0]}; run tools/dataset_converters/nyuv2_depth.py again, or set "
                "data_prefix.depth_map_path"
            )
        return data_list

    def _files(self, folder: str) -> set[str]:
        """Paths of all depth maps below a folder, relative to it."""
        if self.backend_args is None and not Path(folder).is_dir():
            return set()
        found = list_dir_or_file(
            folder,
            list_dir=False,
            suffix=self.depth_map_suffix,
            recursive=True,
            backend_args=self.backend_args,
        )
        return set(found)
