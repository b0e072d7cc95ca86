# As ours, but both anchors stay as pretrained: only stitching layers and head are trained.
_base_ = "./deit-ti-6-12_ours.py"
model = dict(backbone=dict(freeze_anchors=True))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=1.0)}),
)
