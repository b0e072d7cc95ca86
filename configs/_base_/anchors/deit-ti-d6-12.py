# DeiT-Ti/16 and its child of six blocks, distilled from it by tools/shrink_anchor.py; the command
# is in docs/frontier.md. One width, depths (6, 12), 32 stitches.
anchors = [
    dict(
        model_name="deit_tiny_patch16_224",
        depth=6,
        checkpoint="{{$MMSN_CHILDREN:work_dirs/children}}/deit_ti_d6_distilled.safetensors",
    ),
    dict(
        model_name="deit_tiny_patch16_224",
        checkpoint="{{$MMSN_WEIGHTS:weights}}/deit_tiny_patch16_224.fp16.safetensors",
    ),
]
rank = 16
width = 192
