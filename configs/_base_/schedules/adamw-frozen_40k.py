# AdamW for stitching layers and heads on frozen anchors: a higher learning rate and fewer
# iterations than when everything is trained. The values are usual for linear heads, not tuned.
_base_ = "./adamw_160k.py"
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=40000),
]
train_cfg = dict(max_iters=40000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
