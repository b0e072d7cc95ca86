# ViT-S/14 alone, fine-tuned for depth on NYUv2.
_base_ = [
    "../_base_/models/depth-dpt-light.py",
    "../_base_/anchors/deit-ti14-dinov2-s14.py",
    "../_base_/datasets/nyuv2-depth_168x224.py",
    "../_base_/schedules/adamw_cpu.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(168, 224)),
    backbone=dict(
        anchors=_base_.anchors[1:],
        img_size=(168, 224),
        out_indices=_base_.out_indices,
    ),
    decode_head=dict(in_channels=[_base_.width] * 4),
    test_cfg=dict(flip=False),  # half the time
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=10.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=30, end=150),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=150, val_interval=10_000)
custom_hooks = []
# Tested once, when it is trained.
val_cfg = val_dataloader = val_evaluator = None
