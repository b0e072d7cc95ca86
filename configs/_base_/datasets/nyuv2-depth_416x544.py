# NYUv2 depth, the 795 training and 654 test images of the official labeled set, made by
# tools/dataset_converters/nyuv2_depth.py labeled. Training uses the filled depth maps, and testing
# the raw ones with their holes, as in published results.
dataset_type = "mmsn.NYUv2DepthDataset"
data_root = "data/nyuv2"
crop_size = (416, 544)
depth_range = (1e-3, 10.0)  # meters

load_depth = dict(type="LoadDepthAnnotation", depth_rescale_factor=1e-3)  # files hold millimeters
train_pipeline = [
    dict(type="LoadImageFromFile"),
    load_depth,
    dict(type="mmsn.FixedCrop", rows=(45, 472), columns=(43, 608)),  # without the white border
    dict(type="mmsn.RotateWithDepth", prob=0.5, degree=2.5),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="mmsn.GammaBrightnessColor", prob=0.5),
    dict(type="PackSegInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    load_depth,
    dict(type="PackSegInputs"),
]
test_pipeline = [  # of an image alone, for mmseg.apis.inference_model
    dict(type="LoadImageFromFile"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=2,  # per GPU
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="train.txt",
        data_prefix=dict(img_path="images", depth_map_path="depths"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="test.txt",
        data_prefix=dict(img_path="images", depth_map_path="raw_depths"),
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmsn.DepthMetric", min_depth=depth_range[0], max_depth=depth_range[1])
test_evaluator = val_evaluator
