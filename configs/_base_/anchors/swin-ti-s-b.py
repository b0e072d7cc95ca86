# Swin-Ti, Swin-S and Swin-B with windows of 7, pretrained on ImageNet-22k and tuned on ImageNet-1k.
anchors = [
    dict(
        model_name="swin_tiny_patch4_window7_224.ms_in22k_ft_in1k",
        pretrained=True,
        drop_path_rate=0.2,
    ),
    dict(
        model_name="swin_small_patch4_window7_224.ms_in22k_ft_in1k",
        pretrained=True,
        drop_path_rate=0.2,
    ),
    dict(
        model_name="swin_base_patch4_window7_224.ms_in22k_ft_in1k",
        pretrained=True,
        drop_path_rate=0.2,
    ),
]
width = 1024
level_widths = [128, 256, 512, 1024]
out_indices = (0, 1, 2, 3)
