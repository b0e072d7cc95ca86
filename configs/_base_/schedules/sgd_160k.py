# The optimizer intended by SN-Netv2's SETR configs: no weight decay, heads learn ten times faster.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0),
    paramwise_cfg=dict(
        custom_keys={
            "decode_head": dict(lr_mult=10.0),
            "auxiliary_head": dict(lr_mult=10.0),
        }
    ),
)
param_scheduler = [
    dict(type="PolyLR", eta_min=1e-4, power=0.9, by_epoch=False, begin=0, end=160000),
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
