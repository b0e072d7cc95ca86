"""The tiny stitched segmentor of all tests: widths 16 and 24, milliseconds per image.

What belongs to one folder of tests, such as data, loops and reports, is in its conftest.
"""


def tiny_anchor(dim, depth, **options):
    """A DeiT-3 of this width and depth, patch 16, two heads."""
    return dict(
        model_name="deit3_small_patch16_224", embed_dim=dim, depth=depth, num_heads=2, **options
    )


def tiny_eva(dim, depth, name="vit_small_plus_patch16_dinov3_qkvb", **options):
    """A DINOv3 with SwiGLU of this width and depth, one class token, four registers, two heads.

    Its layer scales are 1, where published ones start at 1e-5 and hide the blocks.
    """
    return dict(
        model_name=name, embed_dim=dim, depth=depth, num_heads=2, init_values=1.0, **options
    )


def tiny_backbone(depths, out_indices, img_size=32, **changes):
    """Config of two stitched anchors of these depths; ``out_indices`` are of the second."""
    anchors = [tiny_anchor(16, depths[0]), tiny_anchor(24, depths[1])]
    options = dict(anchors=anchors, img_size=img_size, out_indices=out_indices, rank=2)
    return dict(type="mmsn.StitchedViT") | options | changes


def tiny_head(num_classes, in_index=1, in_channels=24):
    """Config of a head that reads one level."""
    return dict(
        type="FCNHead",
        in_channels=in_channels,
        in_index=in_index,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=num_classes,
        norm_cfg=dict(type="BN"),
    )


def tiny_segmentor(backbone, head, kind="EncoderDecoder", **preprocessor):
    """Config of a segmentor that is tested on whole images."""
    usual = dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    )
    return dict(
        type=kind,
        data_preprocessor=usual | preprocessor,
        backbone=backbone,
        decode_head=head,
        test_cfg=dict(mode="whole"),
    )


def tiny_swin(dim, depths, **options):
    """A Swin of this width and of these depths by stage, patch 4, windows of 4."""
    return dict(
        model_name="swin_tiny_patch4_window7_224",
        embed_dim=dim,
        depths=depths,
        num_heads=(1, 2, 2, 2),
        window_size=4,
        **(dict(drop_path_rate=0.0) | options),
    )


# Small to large with each of SN-Net's rules: one wider, stages of equal and of unequal depth.
TINY_SWINS = (
    tiny_swin(8, (2, 1, 2, 1)),
    tiny_swin(8, (2, 1, 4, 1)),
    tiny_swin(16, (2, 1, 4, 1)),
)


def tiny_swin_backbone(img_size=64, **changes):
    """Config of three stitched Swins with all four levels."""
    options = dict(anchors=list(TINY_SWINS), img_size=img_size, out_indices=(0, 1, 2, 3), rank=0)
    return dict(type="mmsn.StitchedSwin") | options | changes


def tiny_upernet(num_classes, widths):
    """Config of UperNet on levels of these widths."""
    return dict(
        type="UPerHead",
        in_channels=list(widths),
        in_index=list(range(len(widths))),
        pool_scales=(1, 2),
        channels=8,
        dropout_ratio=0,
        num_classes=num_classes,
        norm_cfg=dict(type="BN"),
        align_corners=False,
    )
