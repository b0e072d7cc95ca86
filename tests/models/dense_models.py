"""Configs of tiny stitched models that predict depth, or segmentation and depth."""

from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from tests.models.conftest import tiny_anchor

SIZE = 32
BACKBONE = dict(
    type="mmsn.StitchedViT",
    anchors=[tiny_anchor(16, 4), tiny_anchor(24, 4)],
    img_size=SIZE,
    out_indices=(0, 1, 2, 3),
    rank=2,
    output_cls_token=True,
)
DPT = dict(
    type="mmsn.DPTDepthHead",
    post_process_channels=[4, 8, 8, 8],
    readout_type="project",
    in_channels=[24] * 4,
    in_index=[0, 1, 2, 3],
    channels=8,
)
SEG = dict(
    type="FCNHead",
    in_channels=24,
    in_index=3,
    channels=8,
    num_convs=1,
    concat_input=False,
    num_classes=5,
    norm_cfg=dict(type="BN"),
)
PREPROCESSOR = dict(
    type="SegDataPreProcessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=(SIZE, SIZE),
    seg_pad_val=255,
)
DEPTH_MODEL = dict(
    type="mmsn.DepthEstimator",
    data_preprocessor=PREPROCESSOR,
    backbone=BACKBONE,
    decode_head=DPT,
    test_cfg=dict(mode="whole"),
)
MULTI_TASK_MODEL = dict(
    type="mmsn.MultiTaskSegmentor",
    data_preprocessor=PREPROCESSOR,
    backbone=BACKBONE,
    decode_head=SEG,
    depth_head=DPT,
    test_cfg=dict(mode="whole"),
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
