# NYUv2 depth, the larger list of raw training images (about 24 000) in mmseg's layout, made by
# tools/dataset_converters/nyuv2_depth.py raw; tested on the same 654 images.
_base_ = "nyuv2-depth_416x544.py"
data_root = "data/nyu"

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="",
        img_suffix=".jpg",
        data_prefix=dict(img_path="images/train", depth_map_path="annotations/train"),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="",
        img_suffix=".jpg",
        data_prefix=dict(img_path="images/test", depth_map_path="annotations/test"),
    ),
)
test_dataloader = val_dataloader
