# DeiT3-B and DeiT3-L, pretrained on ImageNet-21k and fine-tuned on ImageNet-1k, depths (12, 24).
anchors = [
    dict(model_name="deit3_base_patch16_224.fb_in22k_ft_in1k", pretrained=True, drop_path_rate=0.1),
    dict(
        model_name="deit3_large_patch16_224.fb_in22k_ft_in1k", pretrained=True, drop_path_rate=0.1
    ),
]
rank = 4
width = 1024
level_widths = [1024, 1024, 1024, 1024]
out_indices = (9, 14, 19, 23)
