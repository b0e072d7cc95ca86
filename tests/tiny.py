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
