# SN-Net under UperNet on ADE20K: small to large by sliding windows, stitching layers trained
# as a whole, one stitch an iteration, each drawn as often as any other.
_base_ = "upernet_ade20k.py"
model = dict(backbone=dict(space="one_way", rank=0))
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=100),
    dict(type="mmsn.FLOPsConstrainedSamplingHook", uniform=True, parts=1),
]
