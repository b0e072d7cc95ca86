# What the methods of docs/frontier.md add to a recipe; a leaf takes one as its custom_hooks.
_start = dict(type="mmsn.StitchInitHook", num_images=50)
_cost = dict(type="mmsn.TrainingCostHook")
alone_hooks = [_cost]
snnet_hooks = [
    _start,
    dict(type="mmsn.FLOPsConstrainedSamplingHook", uniform=True, parts=1),
    _cost,
]
snnetv2_hooks = [_start, dict(type="mmsn.FLOPsConstrainedSamplingHook", parts=1), _cost]
parts_hooks = [_start, dict(type="mmsn.FLOPsConstrainedSamplingHook"), _cost]
ours_hooks = [
    _start,
    dict(type="mmsn.FLOPsConstrainedSamplingHook", stitches=[0, 1, "ls"]),
    _cost,
]
