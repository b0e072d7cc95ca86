# 50 epochs of LAMB, as SN-Netv2 trains on ImageNet-1k; in epochs, for mmpretrain.
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="Lamb", lr=3e-5, weight_decay=0.02),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
            "gamma": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-7 / 3e-5,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-5,
        by_epoch=True,
        begin=5,
        end=50,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=5)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="mmsn.AtomicCheckpointHook", by_epoch=True, interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    finite=dict(type="mmsn.FiniteHook"),
    ranks=dict(type="mmsn.RankCheckHook"),
)
randomness = dict(seed=0)
