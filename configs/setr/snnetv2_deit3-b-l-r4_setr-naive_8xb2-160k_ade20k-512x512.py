# DeiT3-B and DeiT3-L, ADE20K.
_base_ = ["../_base_/anchors/deit3-b-l.py", "../_base_/recipes/setr-naive_ade20k.py"]
model = dict(
    backbone=dict(anchors=_base_.anchors, out_indices=_base_.out_indices, rank=_base_.rank),
    decode_head=dict(in_channels=_base_.width),
    auxiliary_head=[dict(head, in_channels=_base_.width) for head in _base_.model.auxiliary_head],
)
