# As deit-ti-6-12_snnet.py, with layer-wise learning rates.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
model = dict(backbone=dict(stitches=[0, 1, 2, 3, 4, 5, 6], rank=0))
custom_hooks = _base_.snnet_hooks
test_cfg = dict(stitches="all")
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2595
train_cfg = dict(max_iters=2595)
