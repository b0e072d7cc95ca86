# DeiT-Ti/14 and ViT-S/14 stitched, fine-tuned on NYUv2; tools/stitch.py gives the trained anchors.
_base_ = "../_base_/recipes/setr-light_nyuv2-cpu.py"
model = dict(
    backbone=dict(anchors=_base_.anchors, rank=_base_.rank),
    decode_head=dict(in_channels=_base_.width),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=3.0)}))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 300
train_cfg = dict(max_iters=300)
custom_hooks = _base_.stitch_hooks
# Both anchors, and stitches of both directions over all budgets: a minute for each on two cores.
test_cfg = dict(stitches=["anchors", 4, 8, 16, 22])
