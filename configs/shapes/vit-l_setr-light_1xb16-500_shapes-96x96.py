# The large anchor alone, from scratch, on the built-in shapes.
_base_ = "../_base_/recipes/setr-light_shapes.py"
model = dict(
    backbone=dict(anchors=_base_.anchors[1:]),
    decode_head=dict(in_channels=_base_.width),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=100, end=500),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=500, val_interval=10_000)
custom_hooks = [dict(type="mmsn.TrainingCostHook")]
# Evaluated once, after training.
val_cfg = val_dataloader = val_evaluator = None
