# DINOv3 ViT-S, ViT-B, ViT-L, ADE20K.
_base_ = ["../_base_/anchors/dinov3-s-b-l.py", "../_base_/recipes/upernet_ade20k.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    neck=dict(in_channels=_base_.level_widths),
)
