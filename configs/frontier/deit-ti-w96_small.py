# The narrow anchor, trained alone.
_base_ = ["../_base_/recipes/frontier_nyuv2.py", "../_base_/anchors/deit-ti-w96.py"]
model = dict(
    backbone=dict(anchors=_base_.pair[:1]), decode_head=dict(in_channels=_base_.small_width)
)
custom_hooks = _base_.alone_hooks
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 6498
train_cfg = dict(max_iters=6498)
