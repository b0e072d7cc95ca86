# A linear head on NYUv2, 40 classes, on frozen anchors; a leaf sets the anchors and their width.
_base_ = [
    "../models/linear.py",
    "../datasets/nyuv2-seg_480x480.py",
    "../schedules/adamw-frozen_40k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    backbone=dict(img_size=480, freeze_anchors=True),
    decode_head=dict(num_classes=40),
    test_cfg=dict(crop_size=(480, 480), stride=(320, 320)),
)
