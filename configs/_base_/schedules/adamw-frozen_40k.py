# AdamW for stitching layers and heads on frozen anchors: a higher learning rate and fewer
# iterations than when everything is trained. The values are usual for linear heads, not tuned.
_base_ = "./adamw_40k.py"
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-3))
