# UperNet instead of Semantic FPN, on the same pyramid.
# A leaf sets the anchors and their width.
_base_ = "./depth-fpn.py"
model = dict(
    decode_head=dict(
        _delete_=True,
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
)
