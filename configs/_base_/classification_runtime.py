# default_runtime.py for mmpretrain, which the extra `mmpretrain` installs, and for epochs.
_base_ = "./default_runtime.py"
custom_imports = dict(imports=["mmsn", "mmpretrain"])
default_scope = "mmpretrain"
visualizer = dict(_delete_=True, type="UniversalVisualizer", vis_backends=_base_.vis_backends)
log_processor = dict(by_epoch=True)
tta_model = None
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=100),
    dict(type="mmsn.FLOPsConstrainedSamplingHook", parts=1),
]
test_cfg = dict(stitches="all")
