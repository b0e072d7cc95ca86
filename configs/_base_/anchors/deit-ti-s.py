# DeiT-Ti and DeiT-S, pretrained on ImageNet-1k, depths (12, 12).
anchors = [
    dict(model_name="deit_tiny_patch16_224.fb_in1k", pretrained=True, drop_path_rate=0.1),
    dict(model_name="deit_small_patch16_224.fb_in1k", pretrained=True, drop_path_rate=0.1),
]
rank = 16
width = 384
level_widths = [384, 384, 384, 384]
out_indices = (2, 5, 8, 11)
