_base_ = "./sgd_160k.py"
param_scheduler = [
    dict(type="PolyLR", eta_min=1e-4, power=0.9, by_epoch=False, begin=0, end=80000),
]
train_cfg = dict(max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))
