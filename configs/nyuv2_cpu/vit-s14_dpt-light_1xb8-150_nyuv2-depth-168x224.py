# ViT-S/14 alone, fine-tuned for depth on NYUv2.
_base_ = "../_base_/recipes/dpt-light_nyuv2-cpu.py"
model = dict(
    backbone=dict(anchors=_base_.anchors[1:]),
    decode_head=dict(in_channels=[_base_.width] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=10.0)}))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 150
train_cfg = dict(max_iters=150)
