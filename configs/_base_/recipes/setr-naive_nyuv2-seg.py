# SETR-naive on NYUv2, 40 classes; a leaf sets the anchors and their width.
_base_ = [
    "../models/setr-naive.py",
    "../datasets/nyuv2-seg_480x480.py",
    "../schedules/sgd_40k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    backbone=dict(img_size=480),
    decode_head=dict(num_classes=40),
    auxiliary_head=[
        dict(in_index=level, num_classes=40, **_base_.auxiliary_cfg) for level in range(3)
    ],
    test_cfg=dict(crop_size=(480, 480), stride=(320, 320)),
)
