# DeiT-Ti and DeiT-S, NYUv2, 40 classes.
_base_ = ["../_base_/anchors/deit-ti-s.py", "../_base_/recipes/setr-naive_nyuv2-seg.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    decode_head=dict(in_channels=_base_.width),
    auxiliary_head=[dict(head, in_channels=_base_.width) for head in _base_.model.auxiliary_head],
)
