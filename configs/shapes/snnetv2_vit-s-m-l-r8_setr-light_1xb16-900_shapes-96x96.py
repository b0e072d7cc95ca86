# Three anchors in a chain, on the built-in shapes; `mmsn stitch` gives it the trained anchors.
_base_ = "../_base_/recipes/setr-light_shapes.py"
model = dict(
    backbone=dict(anchors=[_base_.anchors[0], _base_.middle, _base_.anchors[1]]),
    decode_head=dict(in_channels=_base_.width),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=20, end=900),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=900, val_interval=10_000)
test_cfg = dict(stitches="all")
# Evaluated once, after training.
val_cfg = val_dataloader = val_evaluator = None
