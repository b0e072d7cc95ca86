# SN-Net under UperNet on ADE20K, for Swins: small to large by sliding windows, stage by stage;
# stitching layers trained as a whole, one stitch an iteration, each drawn as often as any other.
_base_ = [
    "../models/upernet-swin.py",
    "../datasets/ade20k_512x512.py",
    "../schedules/adamw_160k.py",
    "../default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(img_size=512, space="one_way", rank=0),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"relative_position_bias_table": dict(decay_mult=0.0)})
)
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=100),
    dict(type="mmsn.FLOPsConstrainedSamplingHook", uniform=True, parts=1),
]
