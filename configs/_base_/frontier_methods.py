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
elastic_hooks = [  # the large anchor's first 6 to 12 blocks
    dict(type="mmsn.FLOPsConstrainedSamplingHook", stitches=[*range(7)], parts=1),
    _cost,
]
# Layer-wise learning rates: an optim_wrapper of a leaf or a recipe. Blocks learn more slowly, the
# closer they are to the image.
layer_wise = dict(
    constructor="mmsn.LayerDecayOptimizerConstructor",
    paramwise_cfg=dict(
        _delete_=True, decay_rate=0.85, custom_keys={"decode_head": dict(lr_mult=5.0)}
    ),
)
