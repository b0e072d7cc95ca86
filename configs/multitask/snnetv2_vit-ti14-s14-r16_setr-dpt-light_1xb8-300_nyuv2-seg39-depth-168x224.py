# DeiT-Ti/14 and ViT-S/14 stitched under a head for 39 classes and one for depth.
_base_ = [
    "../_base_/models/seg-depth_setr-dpt-light.py",
    "../_base_/anchors/deit-ti14-dinov2-s14.py",
    "../_base_/datasets/nyuv2-seg39-depth_168x224.py",
    "../_base_/schedules/adamw_cpu.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(168, 224)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=(168, 224),
        out_indices=_base_.out_indices,
        rank=_base_.rank,
    ),
    decode_head=dict(in_channels=_base_.width, num_classes=39),
    depth_head=dict(in_channels=[_base_.width] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"_head": dict(lr_mult=10.0)}))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 300
train_cfg = dict(max_iters=300)
test_cfg = dict(stitches=["anchors", 4, 8, 16, 22])
# Evaluated once, after training.
val_cfg = val_dataloader = val_evaluator = None
