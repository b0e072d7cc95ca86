# COCO-Stuff-10K in crops of 896, from images whose shorter side is 896.
_base_ = "./ade20k_512x512.py"
crop_size = (896, 896)
full_size = (3584, 896)  # longest and shortest side of an image at scale 1
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=full_size, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=full_size, keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
dataset_type = "COCOStuffDataset"
data_root = "data/coco_stuff10k"
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="images/train2014", seg_map_path="annotations/train2014"),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="images/test2014", seg_map_path="annotations/test2014"),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
