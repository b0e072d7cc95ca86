# DeiT3-S and DeiT3-L as in SN-Netv2 for depth: other levels, and no stochastic depth.
_base_ = "./deit3-s-l.py"
anchors = [
    dict(model_name="deit3_small_patch16_224.fb_in22k_ft_in1k", pretrained=True),
    dict(model_name="deit3_large_patch16_224.fb_in22k_ft_in1k", pretrained=True),
]
out_indices = (4, 11, 17, 23)
