# What default_runtime.py is for mmseg, for mmdet, which the extra `mmdet` installs.
custom_imports = dict(imports=["mmsn", "mmdet.models", "mmdet.datasets"])
default_scope = "mmdet"
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False

# An iteration runs one stitch, so most parameters receive no gradient.
find_unused_parameters = True
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=50),
    dict(type="mmsn.FLOPsConstrainedSamplingHook"),
]
val_cfg = dict(type="mmsn.ParetoValLoop", stitches=["anchors", "middle"])
test_cfg = dict(type="mmsn.ParetoTestLoop", stitches=["anchors", "middle"])
