# As deit-ti-6-12-layerwise_snnetv2.py, for as much compute as both anchors alone had together.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
custom_hooks = _base_.snnetv2_hooks
test_cfg = dict(stitches=[0, 8, 9, 10, 19, 11, 12, 22, 1])
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 5150
train_cfg = dict(max_iters=5150)
