# COCO-Stuff-10K in crops of 896, from images whose shorter side is 896. Its base is ADE20K, because
# with the smaller crop as base a leaf would have four levels of inheritance.
_base_ = "./ade20k_512x512.py"
crop_size = (896, 896)
full_size = (3584, 896)  # longest and shortest side of an image at scale 1
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = full_size
train_pipeline[3].crop_size = crop_size
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
