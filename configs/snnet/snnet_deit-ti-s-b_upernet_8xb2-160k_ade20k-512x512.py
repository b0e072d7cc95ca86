# SN-Net on DeiT-Ti, DeiT-S and DeiT-B: 71 stitches. ADE20K.
_base_ = ["../_base_/anchors/deit-ti-s-b.py", "../_base_/recipes/snnet_upernet_ade20k.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices),
    neck=dict(in_channels=_base_.level_widths),
)
