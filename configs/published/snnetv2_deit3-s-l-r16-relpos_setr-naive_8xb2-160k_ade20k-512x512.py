# For checkpoints that tools/convert_snnetv2.py makes of the published ones: with their relative
# position bias, and without loading the anchors' own weights.
_base_ = "../setr/snnetv2_deit3-s-l-r16_setr-naive_8xb2-160k_ade20k-512x512.py"
model = dict(
    backbone=dict(
        anchors=[
            dict(model_name="deit3_small_patch16_224", drop_path_rate=0.1, rel_pos_bias=True),
            dict(model_name="deit3_large_patch16_224", drop_path_rate=0.1, rel_pos_bias=True),
        ]
    )
)
