# SETR-naive on ADE20K; a leaf sets the anchors and their width.
_base_ = [
    "../models/setr-naive.py",
    "../datasets/ade20k_512x512.py",
    "../schedules/sgd_160k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(img_size=512),
    decode_head=dict(num_classes=150),
    auxiliary_head=[
        dict(in_index=level, num_classes=150, **_base_.auxiliary_cfg) for level in range(3)
    ],
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
