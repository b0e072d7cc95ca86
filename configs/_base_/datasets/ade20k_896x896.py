# ADE20K in crops of 896, from images whose shorter side is 896.
_base_ = "./ade20k_512x512.py"
crop_size = (896, 896)
full_size = (3584, 896)  # longest and shortest side of an image at scale 1
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = full_size
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
