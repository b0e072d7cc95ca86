# UperNet, regressing depth in 1e-3 to 10 m, on a pyramid that MultiLevelNeck builds from the
# levels. A leaf sets the anchors and their width.
model = dict(
    type="mmsn.DepthEstimator",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # marks invalid depth
    ),
    backbone=dict(type="mmsn.StitchedViT"),
    neck=dict(type="MultiLevelNeck", out_channels=256, scales=[4, 2, 1, 0.5]),
    decode_head=dict(
        type="mmsn.UPerDepthHead",
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=256,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        min_depth=1e-3,
        max_depth=10.0,
        align_corners=False,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole", flip=True),
)
