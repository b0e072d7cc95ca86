# As deit-ti-6-12-layerwise_large.py, for as much compute as both anchors alone had together.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
model = dict(backbone=dict(anchors=_base_.anchors[1:]))
custom_hooks = _base_.alone_hooks
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 4000
train_cfg = dict(max_iters=4000)
