# DPT on four levels with their class tokens, regressing depth in 1e-3 to 10 m.
# A leaf sets the anchors and their width.
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
    backbone=dict(type="mmsn.StitchedViT", output_cls_token=True),
    decode_head=dict(
        type="mmsn.DPTDepthHead",
        in_index=[0, 1, 2, 3],
        channels=256,
        post_process_channels=[96, 192, 384, 768],
        readout_type="project",
        min_depth=1e-3,
        max_depth=10.0,
        align_corners=False,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole", flip=True),
)
