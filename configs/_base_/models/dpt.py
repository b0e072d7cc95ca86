# DPT on four levels with their class tokens.
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
    backbone=dict(type="mmsn.StitchedViT", output_cls_token=True),
    decode_head=dict(
        type="DPTHead",
        input_transform="multiple_select",
        in_index=[0, 1, 2, 3],
        channels=256,
        post_process_channels=[96, 192, 384, 768],
        readout_type="project",
        dropout_ratio=0.1,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide"),
)
