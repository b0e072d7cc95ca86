# Without stitching: the large anchor with elastic depth, its first 6 to 12 blocks, one depth drawn
# per iteration.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
model = dict(backbone=dict(anchors=_base_.anchors[1:], space="elastic"))
custom_hooks = _base_.elastic_hooks
test_cfg = dict(stitches=[*range(7)])  # all but so many blocks
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2611
train_cfg = dict(max_iters=2611)
