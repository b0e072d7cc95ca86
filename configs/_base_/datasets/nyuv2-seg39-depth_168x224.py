# NYUv2, 39 classes and 8-bit depth of a public copy: both labels in one pipeline. For labels and
# depth, see the two bases of one task each. Depth is divided by the zoom.
_base_ = "nyuv2-seg39_168x224.py"
dataset_type = "mmsn.NYUv2DepthDataset"
full_size = (224, 168)
depth_range = (1e-3, 10.0)  # meters

load_depth = dict(type="LoadDepthAnnotation", depth_rescale_factor=10 / 255)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    load_depth,
    dict(type="RandomResize", scale=full_size, ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type="mmsn.DivideDepthByZoom", full_size=full_size),
    dict(type="RandomCrop", crop_size=(168, 224), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmsn.GammaBrightnessColor", prob=0.5),
    dict(type="PackSegInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=full_size, keep_ratio=False),
    dict(type="LoadAnnotations"),
    load_depth,
    dict(type="PackSegInputs"),
]
test_pipeline = [  # of an image alone, for mmseg.apis.inference_model
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=full_size, keep_ratio=False),
    dict(type="PackSegInputs"),
]
both = dict(
    type=dataset_type,
    data_prefix=dict(img_path="images", seg_map_path="labels40", depth_map_path="depths"),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **both))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline, **both))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="IoUMetric", iou_metrics=["mIoU"]),
    dict(type="mmsn.DepthMetric", min_depth=depth_range[0], max_depth=depth_range[1]),
]
test_evaluator = val_evaluator
tta_pipeline = None  # mmseg averages label maps only
