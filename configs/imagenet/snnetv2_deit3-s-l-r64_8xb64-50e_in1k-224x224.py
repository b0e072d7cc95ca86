# ImageNet-1k, DeiT3-S and DeiT3-L: 134 stitches, each with the classifier of its last anchor.
_base_ = "../_base_/recipes/classifier_imagenet.py"
model = dict(backbone=dict(anchors=[_base_.small, _base_.large]))
