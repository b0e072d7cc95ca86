# SN-Netv2's depth recipe: 24 epochs of 24,231 images in batches of 16, one cycle of the learning
# rate. What differs, and why: docs/depth-models.md. The heads learn ten times faster than the
# backbone throughout, whereas mmengine's OneCycleLR would give all of them the same peak.
_base_ = "./adamw_160k.py"
head = dict(lr_mult=10.0)
head_norm = dict(lr_mult=10.0, decay_mult=0.0)  # norm_decay_mult does not apply where a key matches
optim_wrapper = dict(
    optimizer=dict(lr=2e-5),
    clip_grad=dict(max_norm=35.0, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            "neck": head,
            "_head": head,
            "_head.norm": head_norm,
            "bn.weight": head_norm,
            "bn.bias": head_norm,
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 25, by_epoch=False, begin=0, end=10_800),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=1 / 2500,
        by_epoch=False,
        begin=10_800,
        end=36_000,
    ),
]
train_cfg = dict(max_iters=36_000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
