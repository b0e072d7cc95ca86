# As deit-ti-6-12-layerwise_elastic.py, for as much compute as both anchors alone had together.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
model = dict(backbone=dict(anchors=_base_.anchors[1:], space="elastic"))
custom_hooks = _base_.elastic_hooks
test_cfg = dict(stitches=[*range(7)])  # all but so many blocks
optim_wrapper = _base_.layer_wise
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 5222
train_cfg = dict(max_iters=5222)
