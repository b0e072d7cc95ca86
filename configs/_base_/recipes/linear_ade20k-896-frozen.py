# A linear head on ADE20K in crops of 896, on frozen anchors;
# a leaf sets the anchors and their width.
_base_ = [
    "../models/linear.py",
    "../datasets/ade20k_896x896.py",
    "../schedules/adamw-frozen_40k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(896, 896)),
    backbone=dict(img_size=896, freeze_anchors=True),
    decode_head=dict(num_classes=150),
    test_cfg=dict(crop_size=(896, 896), stride=(597, 597)),
)
