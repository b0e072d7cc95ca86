# SN-Net on DeiT-Ti, DeiT-S and DeiT-B: 71 stitches. ADE20K.
_base_ = ["../_base_/anchors/deit-ti-s-b.py", "../_base_/recipes/snnet_setr-naive_ade20k.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices),
    decode_head=dict(in_channels=_base_.width),
    auxiliary_head=[
        dict(in_index=level, in_channels=_base_.width, num_classes=150, **_base_.auxiliary_cfg)
        for level in range(3)
    ],
)
