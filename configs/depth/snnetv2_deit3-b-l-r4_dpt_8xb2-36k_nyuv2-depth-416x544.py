# DeiT3-B and DeiT3-L, NYUv2 depth, the labeled set.
_base_ = ["../_base_/anchors/deit3-b-l_depth.py", "../_base_/recipes/dpt_nyuv2-depth.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    decode_head=dict(in_channels=_base_.level_widths),
)
