# SN-Net on Swin-Ti, Swin-S and Swin-B: 41 stitches. ADE20K.
_base_ = ["../_base_/anchors/swin-ti-s-b.py", "../_base_/recipes/snnet_upernet-swin_ade20k.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices),
    decode_head=dict(in_channels=_base_.level_widths),
    auxiliary_head=dict(in_channels=_base_.level_widths[2]),
)
