"""A stitched segmentor of depths (4, 8) that runs in milliseconds, and a report of it."""

import torch
from mmengine.config import Config
from mmseg.apis import init_model

from mmsn.evaluation import ParetoReport, StitchResult
from mmsn.models import segmentor_macs, segmentor_params
from tests.models.conftest import tiny_anchor

SIZE = 32


def tiny_config(**backbone):
    """A config with which ``init_model``, ``inference_model`` and ``MMSegInferencer`` work."""
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]
    options = dict(
        type="mmsn.StitchedViT",
        anchors=[tiny_anchor(16, 4), tiny_anchor(24, 8)],
        img_size=SIZE,
        out_indices=(3, 7),
        rank=2,
    )
    options |= backbone
    return Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            model=dict(
                type="EncoderDecoder",
                data_preprocessor=dict(
                    type="SegDataPreProcessor", mean=[120] * 3, std=[60] * 3, bgr_to_rgb=True
                ),
                backbone=options,
                decode_head=dict(
                    type="FCNHead",
                    in_channels=options["anchors"][-1]["embed_dim"],
                    in_index=1,
                    channels=8,
                    num_convs=1,
                    concat_input=False,
                    num_classes=5,
                    norm_cfg=dict(type="BN"),
                ),
                test_cfg=dict(mode="whole"),
            ),
            visualizer=dict(type="SegLocalVisualizer", vis_backends=[]),
            test_pipeline=pipeline,
            test_dataloader=dict(dataset=dict(type="BaseSegDataset", pipeline=pipeline)),
        )
    )


def tiny_model(seed=0, **backbone):
    """Random weights, with which every stitch gives an output of its own."""
    torch.manual_seed(seed)
    model = init_model(tiny_config(**backbone), device="cpu")
    model.dataset_meta = dict(classes=list("abcde"), palette=[[40 * i] * 3 for i in range(5)])
    for key in model.backbone.space.layer_keys:
        model.backbone.layer(key).lora_B.data.normal_()
    model.decode_head.conv_seg.weight.data.normal_()
    return model


def tiny_report(model, scores, metric="mIoU"):
    """A report that gives these stitches these scores."""
    macs, params = segmentor_macs(model, (SIZE, SIZE)), segmentor_params(model)
    space = model.backbone.space
    return ParetoReport(
        title="tiny",
        config="c.py",
        checkpoint="x.pth",
        checkpoint_sha256="",
        image_size=(SIZE, SIZE),
        images=1,
        of_images=1,
        software={},
        stitches=[
            StitchResult(
                id=i,
                kind=space[i].kind,
                segments=space[i].segments,
                macs=macs[i],
                params=params[i],
                metrics={metric: score},
            )
            for i, score in scores.items()
        ],
    )
