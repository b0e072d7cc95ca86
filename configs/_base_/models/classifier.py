# Stitches with the classifiers of their anchors, under mmpretrain; a leaf sets the anchors.
model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(
        type="ClsDataPreprocessor",
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(type="mmsn.StitchedClassifier", img_size=224, rank=64, num_classes=1000),
    # The backbone gives logits, so this head is only the loss.
    head=dict(
        type="ClsHead", loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original")
    ),
    train_cfg=dict(augments=[dict(type="CutMix", alpha=1.0)]),
)
