# DINOv3 ViT-S, ViT-B, NYUv2, 40 classes; anchors stay as they are.
_base_ = [
    "../_base_/models/linear.py",
    "../_base_/anchors/dinov3-s-b.py",
    "../_base_/datasets/nyuv2-seg_480x480.py",
    "../_base_/schedules/adamw-frozen_40k.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=480,
        out_indices=_base_.out_indices[-1:],
        rank=_base_.rank,
        freeze_anchors=True,
    ),
    decode_head=dict(in_channels=_base_.width, num_classes=40),
    test_cfg=dict(crop_size=(480, 480), stride=(320, 320)),
)
