"""Configs that distribute a training in a way that cannot work."""

import pytest
from mmengine.config import Config

from mmsn.checks import examine
from tests.tiny import tiny_anchor, tiny_backbone, tiny_head, tiny_segmentor

DDP = dict(type="MMDistributedDataParallel")


def config(anchors=2, **changes):
    specs = [tiny_anchor(16, 2, checkpoint="a.pth"), tiny_anchor(24, 4, checkpoint="b.pth")]
    backbone = tiny_backbone((2, 4), (1, 3), anchors=specs[2 - anchors :])
    return Config(
        dict(
            model=tiny_segmentor(backbone, tiny_head(3)),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01)),
            custom_hooks=[
                dict(type="mmsn.StitchInitHook"),
                dict(type="mmsn.FLOPsConstrainedSamplingHook"),
            ],
            launcher="pytorch",
        )
        | changes
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, "find_unused_parameters"),
        (dict(find_unused_parameters=False), "find_unused_parameters"),
        (dict(model_wrapper_cfg=DDP), "model_wrapper_cfg.find_unused_parameters"),
        (
            dict(model_wrapper_cfg=DDP, find_unused_parameters=True),  # which mmengine ignores then
            "model_wrapper_cfg.find_unused_parameters",
        ),
    ],
)
def test_ddp_that_does_not_look_for_unused_parameters_is_a_warning(changes, key):
    (line,) = examine(config(**changes), training=True).warnings
    assert line.startswith(f"{key} is not True, so training fails when")
    assert line.endswith(f": set {key}=True")


@pytest.mark.parametrize(
    "changes",
    [
        dict(launcher="none"),
        dict(find_unused_parameters=True),
        dict(model_wrapper_cfg=DDP | dict(find_unused_parameters=True)),
        dict(model_wrapper_cfg=dict(type="OfSomebody")),
        dict(anchors=1),  # one stitch uses everything
    ],
)
def test_nothing_is_said_where_it_looks_or_need_not(changes):
    assert examine(config(**changes), training=True).warnings == ()


@pytest.mark.parametrize(
    "changes",
    [
        dict(model_wrapper_cfg=dict(type="MMFullyShardedDataParallel")),
        dict(strategy=dict(type="FSDPStrategy")),
    ],
)
def test_sharding_by_mmengine_is_refused(changes):
    changes["find_unused_parameters"] = True
    (line,) = examine(config(**changes), training=True).errors
    key = next(iter(changes))
    assert line.startswith(f"{key}.type {changes[key]['type']!r} is not supported: it flattens")
    assert not examine(config(**changes), training=False).errors
