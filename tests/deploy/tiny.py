"""A stitched segmentor of depths (4, 8) that runs in milliseconds, and a report of it."""

import torch
from mmengine.config import Config
from mmseg.apis import init_model

from mmsn.evaluation import ParetoReport, StitchResult
from mmsn.models import segmentor_macs, segmentor_params
from tests.tiny import tiny_backbone, tiny_head, tiny_segmentor

SIZE = 32


def tiny_config(**backbone):
    """A config with which ``init_model``, ``inference_model`` and ``MMSegInferencer`` work."""
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]
    options = tiny_backbone((4, 8), (3, 7), SIZE) | backbone
    width = options["anchors"][-1]["embed_dim"]
    return Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            model=tiny_segmentor(
                options, tiny_head(5, in_channels=width), mean=[120] * 3, std=[60] * 3
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
