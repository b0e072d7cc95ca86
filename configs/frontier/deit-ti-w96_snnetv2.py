# SN-Netv2: both directions, low-rank stitching layers, a budget and then one stitch an iteration.
_base_ = ["../_base_/recipes/frontier_nyuv2.py", "../_base_/anchors/deit-ti-w96.py"]
model = dict(backbone=dict(anchors=_base_.pair))
custom_hooks = _base_.snnetv2_hooks
test_cfg = dict(stitches=["anchors", "sl", "ls"])
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2978
train_cfg = dict(max_iters=2978)
