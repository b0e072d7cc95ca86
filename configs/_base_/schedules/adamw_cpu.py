# Short runs on a CPU. A leaf sets how many iterations it takes, how much faster its head learns,
# and where the decay (param_scheduler[1]) ends.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
            "gamma": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=30),
]
train_cfg = dict(type="IterBasedTrainLoop", val_interval=10_000)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmsn.AtomicCheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=1
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    finite=dict(type="mmsn.FiniteHook"),
    labels=dict(type="mmsn.LabelHook"),
    ranks=dict(type="mmsn.RankCheckHook"),
    visualization=dict(type="SegVisualizationHook"),
)
randomness = dict(seed=0)
