"""The registered backbone, what it is made of, and what it costs with its head."""

from mmsn.models.activations import activation_bytes
from mmsn.models.anchor import Anchor
from mmsn.models.backbone import StitchedBackbone
from mmsn.models.complexity import (
    head_macs,
    segmentor_macs,
    segmentor_params,
    step_macs,
    stitched_backbone,
    training_macs,
    unwrap,
)
from mmsn.models.depth_estimator import DepthEstimator, DepthTTAModel
from mmsn.models.depth_heads import DPTDepthHead, FCNDepthHead, FPNDepthHead, UPerDepthHead
from mmsn.models.label_assisted import label_assisted_student, label_assisted_teacher
from mmsn.models.multi_task import MultiTaskSegmentor
from mmsn.models.opening import build, open_segmentor, read_config, usable_device
from mmsn.models.silog_loss import SILogLoss
from mmsn.models.simple_feature_pyramid import SimpleFeaturePyramid
from mmsn.models.stitched_classifier import StitchedClassifier
from mmsn.models.stitched_swin import StitchedSwin
from mmsn.models.stitched_vit import StitchedViT
from mmsn.models.strided_head import StridedSETRUPHead
from mmsn.models.swin_anchor import SwinAnchor

__all__ = [
    "Anchor",
    "DPTDepthHead",
    "DepthEstimator",
    "DepthTTAModel",
    "FCNDepthHead",
    "FPNDepthHead",
    "MultiTaskSegmentor",
    "SILogLoss",
    "SimpleFeaturePyramid",
    "StitchedBackbone",
    "StitchedClassifier",
    "StitchedSwin",
    "StitchedViT",
    "StridedSETRUPHead",
    "SwinAnchor",
    "UPerDepthHead",
    "activation_bytes",
    "build",
    "head_macs",
    "label_assisted_student",
    "label_assisted_teacher",
    "open_segmentor",
    "read_config",
    "segmentor_macs",
    "segmentor_params",
    "step_macs",
    "stitched_backbone",
    "training_macs",
    "unwrap",
    "usable_device",
]
