# ViT-S/14 alone, fine-tuned on NYUv2.
_base_ = "../_base_/recipes/setr-light_nyuv2-cpu.py"
model = dict(
    backbone=dict(anchors=_base_.anchors[1:]),
    decode_head=dict(in_channels=_base_.width),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=10.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=30, end=300),
]
train_cfg = dict(max_iters=300)
custom_hooks = []
