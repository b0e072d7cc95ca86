# COCO, DeiT3-S and DeiT3-L under Mask R-CNN. Global attention in all blocks, unlike ViTDet.
_base_ = ["../_base_/recipes/mask-rcnn_coco.py", "../_base_/anchors/deit3-s-l.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, rank=_base_.rank, out_indices=(23,), with_cp=True),
    neck=dict(in_channels=_base_.width),
)
