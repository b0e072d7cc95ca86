# DeiT-Ti, DeiT-S and DeiT-B, pretrained on ImageNet-1k, depths (12, 12, 12).
anchors = [
    dict(model_name="deit_tiny_patch16_224.fb_in1k", pretrained=True, drop_path_rate=0.1),
    dict(model_name="deit_small_patch16_224.fb_in1k", pretrained=True, drop_path_rate=0.1),
    dict(model_name="deit_base_patch16_224.fb_in1k", pretrained=True, drop_path_rate=0.1),
]
width = 768
level_widths = [768, 768, 768, 768]
out_indices = (2, 5, 8, 11)
