# DINOv3 ViT-S, ViT-L, distilled from one teacher on LVD-1689M, depths (12, 24).
# The weights are under Meta's DINOv3 license; see docs/anchors.md.
anchors = [
    dict(model_name="vit_small_patch16_dinov3.lvd1689m", pretrained=True),
    dict(model_name="vit_large_patch16_dinov3.lvd1689m", pretrained=True),
]
rank = 16
width = 1024
level_widths = [1024, 1024, 1024, 1024]
out_indices = (5, 11, 17, 23)
