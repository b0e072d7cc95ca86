# The same copy of NYUv2 as in nyuv2-seg39_168x224.py, for anchors of patch 16, with more variation
# of scale, because trainings here see each image ten times and more.
_base_ = "./nyuv2-seg39_168x224.py"
crop_size = (192, 256)
full_size = (256, 192)  # width and height of an image at scale 1

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=full_size, ratio_range=(0.8, 1.75), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=full_size, keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
