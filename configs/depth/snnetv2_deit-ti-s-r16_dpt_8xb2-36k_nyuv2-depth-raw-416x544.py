# DeiT-Ti and DeiT-S, NYUv2 depth, the raw training list.
_base_ = ["../_base_/anchors/deit-ti-s.py", "../_base_/recipes/dpt_nyuv2-depth-raw.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    decode_head=dict(in_channels=_base_.level_widths),
)
