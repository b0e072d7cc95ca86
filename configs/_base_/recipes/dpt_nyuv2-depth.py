# DPT on NYUv2 depth, the labeled set; a leaf sets the anchors and their width.
_base_ = [
    "../models/depth-dpt.py",
    "../datasets/nyuv2-depth_416x544.py",
    "../schedules/adamw-depth_36k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(416, 544)),
    backbone=dict(img_size=(480, 640)),  # of the test images, for which FLOPs are counted
)
