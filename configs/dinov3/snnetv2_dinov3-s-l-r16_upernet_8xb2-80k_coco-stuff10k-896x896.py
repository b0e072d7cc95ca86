# DINOv3 ViT-S, ViT-L, COCO-Stuff-10K.
_base_ = ["../_base_/anchors/dinov3-s-l.py", "../_base_/recipes/upernet_coco-stuff10k-896.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    neck=dict(in_channels=_base_.level_widths),
)
