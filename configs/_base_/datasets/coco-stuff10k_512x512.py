# COCO-Stuff-10K, 171 classes: 9,000 training and 1,000 test images, converted by mmseg's tool.
# Sizes and augmentation are those of ADE20K.
_base_ = "./ade20k_512x512.py"
dataset_type = "COCOStuffDataset"
data_root = "data/coco_stuff10k"
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="images/train2014", seg_map_path="annotations/train2014"),
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="images/test2014", seg_map_path="annotations/test2014"),
    )
)
test_dataloader = val_dataloader
