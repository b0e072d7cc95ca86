# Linear probe of ViT-S/14.
_base_ = "../_base_/recipes/linear-probe_nyuv2-cpu.py"
model = dict(
    backbone=dict(anchors=_base_.anchors[1:]),
    decode_head=dict(in_channels=_base_.width, channels=_base_.width),
)
