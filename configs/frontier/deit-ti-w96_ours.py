# As deit-ti-6-12_ours.py: the anchors and large to small alone, both ends in every batch.
_base_ = ["../_base_/recipes/frontier_nyuv2.py", "../_base_/anchors/deit-ti-w96.py"]
model = dict(backbone=dict(anchors=_base_.pair))
custom_hooks = _base_.ours_hooks
test_cfg = dict(stitches=["anchors", "ls"])
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 3005
train_cfg = dict(max_iters=3005)
