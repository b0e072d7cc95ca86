# The same copy of NYUv2 as in nyuv2-seg39_168x224.py, for anchors of patch 16, with more variation
# of scale, because trainings here see each image ten times and more.
_base_ = "./nyuv2-seg39_168x224.py"
crop_size = (192, 256)
full_size = (256, 192)  # width and height of an image at scale 1
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = full_size
train_pipeline[2].ratio_range = (0.8, 1.75)
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
