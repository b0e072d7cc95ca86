# DINOv3 ViT-B, ViT-L, NYUv2 depth, the labeled set, frozen.
_base_ = ["../_base_/anchors/dinov3-b-l.py", "../_base_/recipes/linear_nyuv2-depth-frozen.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices[-1:], rank=_base_.rank),
    decode_head=dict(in_channels=_base_.width),
)
