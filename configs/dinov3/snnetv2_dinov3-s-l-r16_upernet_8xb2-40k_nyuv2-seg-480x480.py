# DINOv3 ViT-S, ViT-L, NYUv2, 40 classes.
_base_ = ["../_base_/anchors/dinov3-s-l.py", "../_base_/recipes/upernet_nyuv2-seg.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    neck=dict(in_channels=_base_.level_widths),
)
