"""Configs of tiny stitched models that predict depth, or segmentation and depth."""

from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from tests.tiny import tiny_backbone, tiny_head, tiny_segmentor

SIZE = 32
BACKBONE = tiny_backbone((4, 4), (0, 1, 2, 3), SIZE, output_cls_token=True)
DPT = dict(
    type="mmsn.DPTDepthHead",
    post_process_channels=[4, 8, 8, 8],
    readout_type="project",
    in_channels=[24] * 4,
    in_index=[0, 1, 2, 3],
    channels=8,
)
SEG = tiny_head(5, in_index=3)
PREPROCESSOR = dict(size=(SIZE, SIZE), seg_pad_val=255)
DEPTH_MODEL = tiny_segmentor(BACKBONE, DPT, kind="mmsn.DepthEstimator", **PREPROCESSOR)
MULTI_TASK_MODEL = dict(
    tiny_segmentor(BACKBONE, SEG, kind="mmsn.MultiTaskSegmentor", **PREPROCESSOR), depth_head=DPT
)


def build(config, **changes):
    init_default_scope("mmseg")
    return MODELS.build(ConfigDict(config | changes)).eval()


def sample(size=(SIZE, SIZE), labels=None, depth=None, **metainfo):
    """A data sample of an image of this (height, width), as the pipelines pack it."""
    made = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size) | metainfo)
    if labels is not None:
        made.gt_sem_seg = PixelData(data=labels)
    if depth is not None:
        made.set_data(dict(gt_depth_map=PixelData(data=depth)))
    return made
