# Learngene Pool on NYUv2, stitching layers started from least squares.
_base_ = ["../_base_/recipes/frontier_nyuv2.py", "../_base_/anchors/pool-deit-ti-d6.py"]
model = dict(backbone=dict(anchors=_base_.instances, out_indices=(5,), space="one_way", rank=0))
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=50),
    dict(type="mmsn.FLOPsConstrainedSamplingHook", uniform=True, parts=1),
    dict(type="mmsn.TrainingCostHook"),
]
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2000
train_cfg = dict(max_iters=2000)
test_cfg = dict(stitches="all")
