# DINOv3 ViT-S, ViT-L, NYUv2 depth, the labelled set; anchors stay as they are.
_base_ = [
    "../_base_/models/depth-linear.py",
    "../_base_/anchors/dinov3-s-l.py",
    "../_base_/datasets/nyuv2-depth_416x544.py",
    "../_base_/schedules/adamw-frozen_40k.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(416, 544)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=(480, 640),  # of the test images, for which FLOPs are counted
        out_indices=_base_.out_indices[-1:],
        rank=_base_.rank,
        freeze_anchors=True,
    ),
    decode_head=dict(in_channels=_base_.width),
)
