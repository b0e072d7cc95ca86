# Depth of NYUv2 at 192x256 with the recipe of frontier_nyuv2.py, compute included.
_base_ = [
    "../models/depth-linear.py",
    "../anchors/deit-ti-d6-12.py",
    "../datasets/nyuv2-depth_192x256.py",
    "../schedules/adamw_cpu-62t.py",
    "../default_runtime.py",
    "../frontier_methods.py",
]
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(
        anchors=_base_.anchors,
        img_size=(192, 256),
        out_indices=(11,),
        eval_levels=(0,),
        rank=_base_.rank,
    ),
    decode_head=dict(  # as wide as the head of segmentation
        in_channels=_base_.width,
        channels=128,
        kernel_size=3,
        act_cfg=dict(_delete_=True, type="ReLU"),
        norm_cfg=dict(type="BN", requires_grad=True),
    ),
    test_cfg=dict(flip=False),
)
# Evaluated once, after training.
val_cfg = val_dataloader = val_evaluator = None
