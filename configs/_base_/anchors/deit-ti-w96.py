# DeiT-Ti/16 and its child of twelve blocks and width 96, distilled from it by
# tools/shrink_anchor.py; the command is in docs/frontier.md. Depths (12, 12), 134 stitches.
pair = [
    dict(
        model_name="deit_tiny_patch16_224",
        embed_dim=96,
        num_heads=3,
        checkpoint="{{$MMSN_CHILDREN:work_dirs/children}}/deit_ti_w96_distilled.safetensors",
    ),
    dict(
        model_name="deit_tiny_patch16_224",
        checkpoint="{{$MMSN_WEIGHTS:weights}}/deit_tiny_patch16_224.fp16.safetensors",
    ),
]
small_width = 96
