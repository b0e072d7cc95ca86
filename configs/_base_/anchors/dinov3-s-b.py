# DINOv3 ViT-S, ViT-B, distilled from one teacher on LVD-1689M, depths (12, 12).
# The weights are under Meta's DINOv3 license; see docs/anchors.md.
anchors = [
    dict(model_name="vit_small_patch16_dinov3.lvd1689m", pretrained=True),
    dict(model_name="vit_base_patch16_dinov3.lvd1689m", pretrained=True),
]
rank = 16
width = 768
level_widths = [768, 768, 768, 768]
out_indices = (2, 5, 8, 11)
