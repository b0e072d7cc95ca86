# Segmentation and depth from one backbone: SETR-naive on the last level, DPT on all four. Both
# losses have weight 1; before training they are about log(classes) and 0.7. A leaf sets the
# anchors, their width and the number of classes.
model = dict(
    type="mmsn.MultiTaskSegmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,  # ignored as a class, and beyond 10 m as a depth
    ),
    backbone=dict(type="mmsn.StitchedViT", output_cls_token=True),
    decode_head=dict(
        type="SETRUPHead",
        in_index=3,
        channels=256,
        num_convs=1,
        up_scale=4,
        kernel_size=1,
        dropout_ratio=0,
        norm_layer=dict(type="LN", eps=1e-6, requires_grad=True),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, avg_non_ignore=True),
    ),
    depth_head=dict(
        type="mmsn.DPTDepthHead",
        in_index=[0, 1, 2, 3],
        channels=256,
        post_process_channels=[96, 192, 384, 768],
        readout_type="project",
        align_corners=False,
        loss_decode=dict(type="mmsn.SILogLoss", loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
