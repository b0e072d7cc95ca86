# AdamW with warm-up and linear decay, the usual schedule of UperNet and FPN on plain ViTs.
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "pos_embed": no_decay,
            "cls_token": no_decay,
            "reg_token": no_decay,
            "gamma": no_decay,
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160000, val_interval=16000)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmsn.AtomicCheckpointHook", by_epoch=False, interval=16000, max_keep_ckpts=2
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    finite=dict(type="mmsn.FiniteHook"),
    labels=dict(type="mmsn.LabelHook"),
    ranks=dict(type="mmsn.RankCheckHook"),
    visualization=dict(type="SegVisualizationHook"),
)
