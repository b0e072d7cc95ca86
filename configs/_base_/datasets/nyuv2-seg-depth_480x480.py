# NYUv2, 40 classes and depth of the same images: both labels in one pipeline. Depth is divided by
# the zoom, because a magnified image looks closer. Images are never smaller than the crop, because
# the data preprocessor would pad depth with 255 m. Files: tools/dataset_converters/nyuv2_depth.py
_base_ = "nyuv2-seg_480x480.py"
dataset_type = "mmsn.NYUv2DepthDataset"
full_size = (640, 480)
depth_range = (1e-3, 10.0)  # meters

load_depth = dict(type="LoadDepthAnnotation", depth_rescale_factor=1e-3)  # files hold millimeters
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    load_depth,
    dict(type="RandomResize", scale=full_size, ratio_range=(1.0, 2.0), keep_ratio=True),
    dict(type="mmsn.DivideDepthByZoom", full_size=full_size),
    dict(type="RandomCrop", crop_size=(480, 480), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmsn.GammaBrightnessColor", prob=0.5),
    dict(type="PackSegInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    load_depth,
    dict(type="PackSegInputs"),
]
test_pipeline = [  # of an image alone, for mmseg.apis.inference_model
    dict(type="LoadImageFromFile"),
    dict(type="PackSegInputs"),
]
labels = dict(img_path="images", seg_map_path="labels40")
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_prefix=dict(depth_map_path="depths", **labels),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_prefix=dict(depth_map_path="raw_depths", **labels),
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="IoUMetric", iou_metrics=["mIoU"]),
    dict(type="mmsn.DepthMetric", min_depth=depth_range[0], max_depth=depth_range[1]),
]
test_evaluator = val_evaluator
tta_pipeline = None  # mmseg averages label maps only
