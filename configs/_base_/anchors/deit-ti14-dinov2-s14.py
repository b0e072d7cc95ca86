# DeiT-Ti, resampled from patch 16 to 14, and a ViT-S/14 of DINOv2's shape, depths (12, 12).
# They are not from one model family, but share a token grid. Weights are local files.
anchors = [
    dict(
        model_name="deit_tiny_patch16_224",
        patch_size=14,
        checkpoint="{{$MMSN_WEIGHTS:weights}}/deit_tiny_patch16_224.fp16.safetensors",
    ),
    dict(
        model_name="vit_small_patch14_dinov2",
        checkpoint="{{$MMSN_WEIGHTS:weights}}/dinov2_vits14.fp16.safetensors",
    ),
]
rank = 16
small_width = 192
width = 384
out_indices = (2, 5, 8, 11)
