# A linear head on the tokens of one level: a projection to 256 channels, a batch norm, because
# raw block outputs differ widely in scale, and a classifier, with no activation between them.
# A leaf sets the anchors, their width, their last block and the number of classes.
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
    backbone=dict(type="mmsn.StitchedViT"),
    decode_head=dict(
        type="FCNHead",
        in_index=0,
        channels=256,
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        act_cfg=None,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        dropout_ratio=0.1,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide"),
)
