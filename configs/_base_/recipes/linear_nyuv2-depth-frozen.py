# A linear head on NYUv2 depth, the labeled set, on frozen anchors;
# a leaf sets the anchors and their width.
_base_ = [
    "../models/depth-linear.py",
    "../datasets/nyuv2-depth_416x544.py",
    "../schedules/adamw-frozen_40k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(416, 544)),
    backbone=dict(
        img_size=(480, 640),  # of the test images, for which FLOPs are counted
        freeze_anchors=True,
    ),
)
