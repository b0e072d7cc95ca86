# The same copy of NYUv2 depth as in nyuv2-depth_168x224.py, for anchors of patch 16.
_base_ = "./nyuv2-depth_168x224.py"
crop_size = (192, 256)
full_size = (256, 192)  # width and height of network inputs
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
val_pipeline = _base_.val_pipeline
train_pipeline[2].scale = val_pipeline[1].scale = test_pipeline[1].scale = full_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
