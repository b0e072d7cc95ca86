# DeiT3-S and DeiT3-L as in published checkpoints: with relative position bias, and without
# weights of their own, because the checkpoint holds them.
_base_ = "./deit3-s-l.py"
anchors = [
    dict(model_name="deit3_small_patch16_224", drop_path_rate=0.1, rel_pos_bias=True),
    dict(model_name="deit3_large_patch16_224", drop_path_rate=0.1, rel_pos_bias=True),
]
