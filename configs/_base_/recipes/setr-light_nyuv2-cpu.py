# A light SETR head on NYUv2, 39 classes, for a CPU; a leaf sets the anchors and the schedule.
_base_ = [
    "../models/setr-light.py",
    "../anchors/deit-ti14-dinov2-s14.py",
    "../datasets/nyuv2-seg39_168x224.py",
    "../schedules/adamw_cpu.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(168, 224)),
    backbone=dict(img_size=(168, 224), out_indices=_base_.out_indices),
    decode_head=dict(num_classes=39),
)
stitch_hooks = _base_.custom_hooks  # for leaves that stitch; the others have one anchor
custom_hooks = []
# Evaluated once, after training.
val_cfg = val_dataloader = val_evaluator = None
