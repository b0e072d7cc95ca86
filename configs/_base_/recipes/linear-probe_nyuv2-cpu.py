# Linear probe: one linear layer on the final tokens of a frozen anchor; a leaf sets which.
_base_ = "./setr-light_nyuv2-cpu.py"
model = dict(
    backbone=dict(freeze_anchors=True),
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_index=3,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
        num_classes=39,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, avg_non_ignore=True),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=None)
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=0, end=250)]
train_cfg = dict(max_iters=250)
