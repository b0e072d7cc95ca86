# DINOv3 ViT-S, ViT-L, NYUv2 depth, the labeled set, frozen.
_base_ = ["../_base_/anchors/dinov3-s-l.py", "../_base_/recipes/dpt_nyuv2-depth-frozen.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    decode_head=dict(in_channels=_base_.level_widths),
)
