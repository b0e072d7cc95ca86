# SN-Net as published: its sliding windows, stitching layers trained as a whole, uniform draws.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
model = dict(backbone=dict(space="one_way", rank=0))
custom_hooks = _base_.snnet_hooks
test_cfg = dict(stitches="all")
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2457
train_cfg = dict(max_iters=2457)
