# As deit-ti-6-12_ours.py, with layer-wise learning rates.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
custom_hooks = _base_.ours_hooks
test_cfg = dict(stitches=[0, 8, 9, 10, 11, 12, 1])
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2580
train_cfg = dict(max_iters=2580)
