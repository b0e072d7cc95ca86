# DeiT3-B and DeiT3-L, NYUv2 depth, the raw training list.
_base_ = ["../_base_/anchors/deit3-b-l_depth.py", "../_base_/recipes/upernet_nyuv2-depth-raw.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    neck=dict(in_channels=_base_.level_widths),
)
