# ViT-S/14, distilled from the label-assisted ViT-S/14.
_base_ = "../nyuv2_cpu/vit-s14_setr-light_1xb8-300_nyuv2-168x224.py"
label_teacher = "work_dirs/vit-s14_setr-light_label-teacher_1xb8-300_nyuv2-168x224/iter_300.pth"
model = dict(
    _delete_=True,
    type="mmsn.LabelAssistedStudent",
    module=_base_.model,
    teacher=dict(module=_base_.model, checkpoint=label_teacher),
)
