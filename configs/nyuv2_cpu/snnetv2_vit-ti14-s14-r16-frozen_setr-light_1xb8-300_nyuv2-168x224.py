# DeiT-Ti/14 and ViT-S/14 stitched and never trained themselves: only stitching layers and the head.
_base_ = "./snnetv2_vit-ti14-s14-r16_setr-light_1xb8-300_nyuv2-168x224.py"
model = dict(backbone=dict(freeze_anchors=True))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=1.0)})
)
