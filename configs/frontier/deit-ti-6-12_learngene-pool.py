# As parts, but the small anchor is an instance of Learngene Pool, and stitching layers start from
# its matrices: the identity, because both instances have the ancestor's width. docs/neighbors.md
# has the command that makes the pool.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
pool = "{{$MMSN_POOL:work_dirs/pool_deit-ti-6-12}}"
instance = dict(_base_.anchors[0], checkpoint=f"{pool}/instance_0_6x192.safetensors")
# The instance of the ancestor's own shape is the ancestor.
model = dict(backbone=dict(anchors=[instance, _base_.anchors[1]]))
custom_hooks = [
    dict(type="mmsn.MatrixInitHook", matrices=f"{pool}/matrices.safetensors"),
    dict(type="mmsn.FLOPsConstrainedSamplingHook"),
    dict(type="mmsn.TrainingCostHook"),
]
test_cfg = dict(stitches=[0, 8, 9, 10, 11, 12, 1])  # as parts
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2580
train_cfg = dict(max_iters=2580)
