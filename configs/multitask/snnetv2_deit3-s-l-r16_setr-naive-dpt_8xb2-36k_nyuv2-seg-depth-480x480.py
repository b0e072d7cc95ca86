# DeiT3-S and DeiT3-L under a head for 40 classes and one for depth, NYUv2.
_base_ = [
    "../_base_/models/seg-depth_setr-dpt.py",
    "../_base_/anchors/deit3-s-l_depth.py",
    "../_base_/datasets/nyuv2-seg-depth_480x480.py",
    "../_base_/schedules/adamw-depth_36k.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(480, 480)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=(480, 640),  # of the test images, for which FLOPs are counted
        out_indices=_base_.out_indices,
        rank=_base_.rank,
    ),
    decode_head=dict(in_channels=_base_.width, num_classes=40),
    depth_head=dict(in_channels=_base_.level_widths),
)
