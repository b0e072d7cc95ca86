# UperNet on ADE20K in crops of 896; a leaf sets the anchors and their width.
_base_ = [
    "../models/upernet.py",
    "../datasets/ade20k_896x896.py",
    "../schedules/adamw_160k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(896, 896)),
    backbone=dict(img_size=896),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(crop_size=(896, 896), stride=(597, 597)),
)
