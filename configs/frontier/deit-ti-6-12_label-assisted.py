# Label-assisted distillation: as parts, but every stitch also learns from label-teacher, which has
# a third of the compute.
_base_ = "../_base_/recipes/frontier_nyuv2.py"
label_teacher = "{{$MMSN_ROWS:work_dirs/frontier}}/deit-ti-6-12_label-teacher_0/iter_320.pth"
large = dict(_base_.model, backbone=dict(_base_.model["backbone"], anchors=_base_.anchors[1:]))
model = dict(
    _delete_=True,
    type="mmsn.LabelAssistedStudent",
    module=_base_.model,
    teacher=dict(module=large, checkpoint=label_teacher),
)
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=50),
    dict(type="mmsn.FLOPsConstrainedSamplingHook"),
    # What the teacher cost.
    dict(type="mmsn.TrainingCostHook", before_macs=320 * 8 * 7_787_833_344, before_images=320 * 8),
]
test_cfg = dict(stitches=[0, 8, 9, 10, 11, 12, 1])  # as parts
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 1220
train_cfg = dict(max_iters=1220)
