# As parts, but both anchors stay as pretrained: only stitching layers and head are trained.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
model = dict(backbone=dict(freeze_anchors=True))
custom_hooks = _base_.parts_hooks
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=1.0)}),
)
test_cfg = dict(stitches=[0, 8, 9, 10, 11, 12, 1])  # as ours
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2580
train_cfg = dict(max_iters=2580)
