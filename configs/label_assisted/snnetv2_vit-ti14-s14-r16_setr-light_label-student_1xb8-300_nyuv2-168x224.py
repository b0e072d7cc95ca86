# Every stitch of DeiT-Ti/14 and ViT-S/14, distilled from the label-assisted ViT-S/14.
_base_ = "../nyuv2_cpu/snnetv2_vit-ti14-s14-r16_setr-light_1xb8-300_nyuv2-168x224.py"
label_teacher = "work_dirs/vit-s14_setr-light_label-teacher_1xb8-300_nyuv2-168x224/iter_300.pth"
# The teacher's architecture is the student's last anchor alone, under the same head.
teacher_backbone = dict(_base_.model["backbone"], anchors=_base_.anchors[1:])
model = dict(
    _delete_=True,
    type="mmsn.LabelAssistedStudent",
    module=_base_.model,
    teacher=dict(
        module=dict(_base_.model, backbone=teacher_backbone),
        checkpoint=label_teacher,
    ),
)
