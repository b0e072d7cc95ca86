# A light SETR head on the built-in shapes, for a CPU; a leaf sets the anchors and the schedule.
_base_ = [
    "../models/setr-light.py",
    "../anchors/shapes-s-l.py",
    "../datasets/shapes_96x96.py",
    "../schedules/adamw_cpu.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(img_size=96, out_indices=_base_.out_indices, rank=_base_.rank),
    decode_head=dict(num_classes=12),
)
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=50),
    dict(type="mmsn.FLOPsConstrainedSamplingHook"),
    dict(type="mmsn.TrainingCostHook"),
]
