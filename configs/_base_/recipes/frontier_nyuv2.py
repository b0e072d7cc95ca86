# Segmentation of NYUv2 at 192x256 for the comparison of methods in docs/frontier.md. Every leaf
# trains for the compute of the large anchor's 2,000 iterations: 62 T multiply-accumulates (in a
# family -twice, for two times that).
_base_ = [
    "../models/setr-light.py",
    "../anchors/deit-ti-d6-12.py",
    "../datasets/nyuv2-seg39_192x256.py",
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
    decode_head=dict(
        type="mmsn.StridedSETRUPHead",  # a cheaper loss; see its module
        label_stride=2,
        in_index=0,
        in_channels=_base_.width,
        num_classes=39,
    ),
)
# Evaluated once, after training.
val_cfg = val_dataloader = val_evaluator = None
