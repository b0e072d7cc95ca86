# NYUv2 depth of a public copy with 8-bit depth maps, whose steps are 39 mm: for comparing methods
# with each other, not with published results. Images at 168x224, predictions at full size.
dataset_type = "mmsn.NYUv2DepthDataset"
data_root = "{{$MMSN_NYUV2:data/nyuv2}}"
crop_size = (168, 224)
full_size = (224, 168)  # width and height of network inputs
depth_range = (1e-3, 10.0)  # meters

load_depth = dict(type="LoadDepthAnnotation", depth_rescale_factor=10 / 255)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    load_depth,
    dict(type="Resize", scale=full_size, keep_ratio=False),
    dict(type="mmsn.RotateWithDepth", prob=0.5, degree=2.5),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmsn.GammaBrightnessColor", prob=0.5),
    dict(type="PackSegInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=full_size, keep_ratio=False),
    load_depth,
    dict(type="PackSegInputs"),
]
test_pipeline = [  # of an image alone, for mmseg.apis.inference_model
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=full_size, keep_ratio=False),
    dict(type="PackSegInputs"),
]
copy = dict(
    type=dataset_type,
    data_root=data_root,
    data_prefix=dict(img_path="images", depth_map_path="depths"),
    img_suffix=".jpg",
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(ann_file="train.txt", pipeline=train_pipeline, **copy),
)
val_dataloader = dict(
    batch_size=6,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(ann_file="test.txt", pipeline=val_pipeline, **copy),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmsn.DepthMetric", min_depth=depth_range[0], max_depth=depth_range[1])
test_evaluator = val_evaluator
