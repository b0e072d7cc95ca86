# ViT-S/14 that also sees noised labels: the teacher of every student on this data.
_base_ = "../nyuv2_cpu/vit-s14_setr-light_1xb8-300_nyuv2-168x224.py"
model = dict(_delete_=True, type="mmsn.LabelAssistedTeacher", module=_base_.model)
# The stem of the label map starts at zero.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"label_stems": dict(lr_mult=10.0)}))
