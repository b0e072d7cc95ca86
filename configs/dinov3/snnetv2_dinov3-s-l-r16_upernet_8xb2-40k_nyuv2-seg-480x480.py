# DINOv3 ViT-S, ViT-L, NYUv2, 40 classes.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/anchors/dinov3-s-l.py",
    "../_base_/datasets/nyuv2-seg_480x480.py",
    "../_base_/schedules/adamw_40k.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=480,
        out_indices=_base_.out_indices,
        rank=_base_.rank,
    ),
    neck=dict(in_channels=_base_.level_widths),
    decode_head=dict(num_classes=40),
    auxiliary_head=dict(num_classes=40),
    test_cfg=dict(crop_size=(480, 480), stride=(320, 320)),
)
