# What default_runtime.py is for mmseg, for mmpretrain, which the extra `mmpretrain` installs.
custom_imports = dict(imports=["mmsn", "mmpretrain"])
default_scope = "mmpretrain"
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="UniversalVisualizer", vis_backends=vis_backends)
log_level = "INFO"
load_from = None
resume = False

# An iteration runs one stitch, so most parameters receive no gradient.
find_unused_parameters = True
custom_hooks = [
    dict(type="mmsn.StitchInitHook", num_images=100),
    dict(type="mmsn.FLOPsConstrainedSamplingHook", parts=1),
]
# Both anchors and the stitch halfway between them while training, every stitch in a test.
val_cfg = dict(type="mmsn.ParetoValLoop", stitches=["anchors", "middle"])
test_cfg = dict(type="mmsn.ParetoTestLoop", stitches="all")
