# A linear head on the tokens of one level, regressing depth in 1e-3 to 10 m: a projection to
# 256 channels, a batch norm and one more channel, with no activation before the last sigmoid.
# A leaf sets the anchors and their width.
model = dict(
    type="mmsn.DepthEstimator",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # invalid as a depth
    ),
    backbone=dict(type="mmsn.StitchedViT"),
    decode_head=dict(
        type="mmsn.FCNDepthHead",
        in_index=0,
        channels=256,
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        act_cfg=None,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        min_depth=1e-3,
        max_depth=10.0,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole", flip=True),
)
