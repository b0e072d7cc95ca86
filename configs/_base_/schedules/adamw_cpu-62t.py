# The schedule of the comparison of methods in docs/frontier.md. A leaf sets how long it trains,
# so that it costs 62 T multiply-accumulates (124 T in a family named -twice), and where the second
# scheduler ends.
_base_ = "./adamw_cpu.py"
optim_wrapper = dict(
    type="mmsn.Bf16OptimWrapper",
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=5.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=50),
]
train_cfg = dict(type="IterBasedTrainLoop", val_interval=100_000)
