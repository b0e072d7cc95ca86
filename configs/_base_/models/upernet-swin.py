# UperNet on the four levels of a hierarchical backbone, which need no neck; auxiliary head on the
# third, where most blocks are. A leaf sets the anchors, their widths and the number of classes.
_base_ = "./upernet.py"
model = dict(
    backbone=dict(type="mmsn.StitchedSwin"),
    neck=None,
    auxiliary_head=dict(in_index=2),
)
