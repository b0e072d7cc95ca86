# The teacher of label-assisted: the large anchor, which also sees noised labels. A third of the
# row's compute, 20 T, along two paths.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
large = dict(_base_.model, backbone=dict(_base_.model["backbone"], anchors=_base_.anchors[1:]))
model = dict(_delete_=True, type="mmsn.LabelAssistedTeacher", module=large)
custom_hooks = [dict(type="mmsn.TrainingCostHook")]
# The stem of the label map starts at zero.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"label_stems": dict(lr_mult=10.0)}))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 320
train_cfg = dict(max_iters=320)
