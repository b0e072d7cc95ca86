# SN-Net as SN-Netv2's figures have it: from small to large only, stitching layers trained as a
# whole, uniform draws.
_base_ = ["../_base_/recipes/frontier_nyuv2.py", "../_base_/anchors/deit-ti-w96.py"]
model = dict(backbone=dict(anchors=_base_.pair, stitches=[*range(13)], rank=0))
custom_hooks = _base_.snnet_hooks
test_cfg = dict(stitches="all")
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 3067
train_cfg = dict(max_iters=3067)
