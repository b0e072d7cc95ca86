# The large anchor alone, from nothing, on the built-in shapes.
_base_ = [
    "../_base_/models/setr-light.py",
    "../_base_/anchors/shapes-s-l.py",
    "../_base_/datasets/shapes_96x96.py",
    "../_base_/schedules/adamw_cpu.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        anchors=_base_.anchors[1:],
        img_size=96,
        out_indices=_base_.out_indices,
        rank=_base_.rank,
    ),
    decode_head=dict(in_channels=_base_.width, num_classes=12),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=100, end=500),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=500, val_interval=10_000)
custom_hooks = []
# Tested once, when it is trained.
val_cfg = val_dataloader = val_evaluator = None
