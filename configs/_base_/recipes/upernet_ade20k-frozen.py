# UperNet on ADE20K, on frozen anchors; a leaf sets the anchors and their width.
_base_ = [
    "../models/upernet.py",
    "../datasets/ade20k_512x512.py",
    "../schedules/adamw-frozen_40k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(img_size=512, freeze_anchors=True),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
