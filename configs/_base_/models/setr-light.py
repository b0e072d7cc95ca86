# A SETR head on the last level, narrow enough for anchors that train on a CPU.
# A leaf sets the anchors, their width and the number of classes.
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
        channels=128,
        num_convs=1,
        up_scale=4,
        kernel_size=3,
        dropout_ratio=0,
        norm_layer=dict(type="LN", eps=1e-6, requires_grad=True),
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        # With the usual 0.01, runs this short lose a third of their iterations.
        init_cfg=dict(type="Normal", std=0.05, override=dict(name="conv_seg")),
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
