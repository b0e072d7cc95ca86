# SETR-naive head on the last level, auxiliary heads for training on the others.
# A recipe sets the number of classes and the auxiliary heads, a leaf the anchors and their width.
norm_cfg = dict(type="SyncBN", requires_grad=True)
layer_norm_cfg = dict(type="LN", eps=1e-6, requires_grad=True)
auxiliary_cfg = dict(
    type="SETRUPHead",
    channels=256,
    num_convs=2,
    kernel_size=1,
    dropout_ratio=0,
    norm_layer=layer_norm_cfg,
    norm_cfg=norm_cfg,
    act_cfg=dict(type="ReLU"),
    align_corners=False,
    loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(type="mmsn.StitchedViT", eval_levels=(3,)),
    decode_head=dict(
        type="SETRUPHead",
        in_index=3,
        channels=256,
        num_convs=1,
        up_scale=4,
        kernel_size=1,
        dropout_ratio=0,
        norm_layer=layer_norm_cfg,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide"),
)
