# ViTDet's schedule: 100 epochs of COCO at 64 images per step.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="mmsn.LayerDecayOptimizerConstructor",
    paramwise_cfg=dict(decay_rate=0.8),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=184375,
        milestones=[163889, 177546],
        gamma=0.1,
    ),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=184375, val_interval=20000)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmsn.AtomicCheckpointHook", by_epoch=False, interval=5000, max_keep_ckpts=2
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    finite=dict(type="mmsn.FiniteHook"),
    ranks=dict(type="mmsn.RankCheckHook"),
)
randomness = dict(seed=0)
