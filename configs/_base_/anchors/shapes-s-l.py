# Two ViTs small enough to train from scratch on a CPU, depths (6, 6), patch 8.
anchors = [
    dict(model_name="vit_tiny_patch16_224", patch_size=8, depth=6, embed_dim=48, num_heads=3),
    dict(model_name="vit_tiny_patch16_224", patch_size=8, depth=6, embed_dim=128, num_heads=4),
]
# Between the two, for a chain of three.
middle = dict(model_name="vit_tiny_patch16_224", patch_size=8, depth=6, embed_dim=84, num_heads=3)
rank = 8
small_width = 48
middle_width = 84
width = 128
out_indices = (1, 2, 4, 5)
