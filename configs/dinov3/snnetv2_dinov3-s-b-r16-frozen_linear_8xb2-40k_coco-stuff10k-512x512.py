# DINOv3 ViT-S, ViT-B, COCO-Stuff-10K; anchors stay as they are.
_base_ = [
    "../_base_/models/linear.py",
    "../_base_/anchors/dinov3-s-b.py",
    "../_base_/datasets/coco-stuff10k_512x512.py",
    "../_base_/schedules/adamw-frozen_40k.py",
    "../_base_/default_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=512,
        out_indices=_base_.out_indices[-1:],
        rank=_base_.rank,
        freeze_anchors=True,
    ),
    decode_head=dict(in_channels=_base_.width, num_classes=171),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
