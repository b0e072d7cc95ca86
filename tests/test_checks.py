"""Every mistake that ``mmsn.checks`` knows, with the line that it prints."""

import copy
import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, init_default_scope

from mmsn import checks
from mmsn.checks import examine
from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.running import make_runner
from tests.tiny import (
    tiny_anchor,
    tiny_backbone,
    tiny_head,
    tiny_segmentor,
    tiny_swin_backbone,
    tiny_upernet,
)

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


@pytest.fixture
def good(tmp_path):
    """A config in which nothing is wrong."""
    init_default_scope("mmseg")
    anchors = [tiny_anchor(16, 2, checkpoint="a.pth"), tiny_anchor(24, 4, checkpoint="b.pth")]
    backbone = tiny_backbone((2, 4), (1, 3), anchors=anchors)
    return Config(
        dict(
            default_scope="mmseg",
            work_dir=str(tmp_path),
            model=tiny_segmentor(backbone, tiny_head(3)),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01)),
            custom_hooks=[
                dict(type="mmsn.StitchInitHook"),
                dict(type="mmsn.FLOPsConstrainedSamplingHook"),
            ],
            val_cfg=dict(type="mmsn.ParetoValLoop"),
            test_cfg=dict(type="mmsn.ParetoTestLoop"),
        )
    )


def errors(config, training=True):
    found = examine(config, training)
    return list(found.errors + found.missing_hooks)


def warnings(config, training=True):
    found = examine(config, training)
    assert not found.errors + found.missing_hooks
    return list(found.warnings)


def test_nothing_is_found_where_nothing_is_wrong(good):
    assert errors(good) == warnings(good) == warnings(good, training=False) == []


def test_nothing_is_said_about_other_networks():
    assert examine(Config(dict(model=dict(type="X", backbone=dict(type="ResNet")))), True) == (
        checks.Findings()
    )
    assert examine(Config(dict(a=1)), True) == checks.Findings()


def test_widths_of_heads(good):
    good.model.decode_head.in_channels = 2048
    good.model.auxiliary_head = [tiny_head(3, 0), tiny_head(3, 0, in_channels=16)]
    assert errors(good) == [
        "model.decode_head.in_channels is 2048, but must be 24, the width of anchor "
        "deit3_small_patch16_224",
        "model.auxiliary_head[1].in_channels is 16, but must be 24, the width of anchor "
        "deit3_small_patch16_224",
    ]
    assert errors(good, training=False) == errors(good)


def test_the_width_of_the_detail_branch(good):
    good.model.decode_head.update(type="DepthwiseSeparableASPPHead", c1_in_channels=256)
    (line,) = errors(good)
    assert line.startswith("model.decode_head.c1_in_channels is 256, but must be 24, the width of")


def test_widths_and_levels_of_a_neck(good):
    good.model.neck = dict(type="MultiLevelNeck", in_channels=[16, 24], out_channels=8, scales=[2])
    good.model.decode_head.update(type="FPNHead", in_channels=(24, 24), in_index=(0, 1))
    assert errors(good) == [
        "model.neck.in_channels is [16, 24], but must be [24, 24], the width of anchor "
        "deit3_small_patch16_224",
        "model.decode_head.in_channels is (24, 24), but must be (8, 8), the width of the neck "
        "(MultiLevelNeck)",
        "model.decode_head.in_index is (0, 1), but there are 1 levels: give 0 to 0, or more "
        "out_indices to model.backbone",
    ]
    good.model.neck.update(in_channels=[24] * 3, scales=[4, 2, 1])
    good.model.decode_head.in_channels = (8, 8)
    assert errors(good) == [
        "model.neck (MultiLevelNeck) takes 3 levels, but model.backbone.out_indices gives 2: make "
        "them equal"
    ]


def test_the_widths_of_other_necks(good):
    good.model.neck = dict(type="Feature2Pyramid", embed_dim=768, rescales=[2, 1])
    good.model.decode_head.in_channels = 768
    (line,) = errors(good)
    assert line.startswith("model.neck.embed_dim is 768, but must be 24")
    good.model.neck = dict(type="SomebodysNeck", anything=3)  # what it gives is not known
    good.model.decode_head.in_channels = 99
    assert errors(good) == []


def test_a_level_that_is_not_there(good):
    good.model.decode_head.in_index = 3
    assert errors(good) == [
        "model.decode_head.in_index is 3, but there are 2 levels: give 0 to 1, or more "
        "out_indices to model.backbone"
    ]
    good.model.decode_head.in_index = -3
    assert errors(good) == [
        "model.decode_head.in_index is -3, but there are 2 levels: give 0 to 1, or more "
        "out_indices to model.backbone"
    ]
    good.model.decode_head.in_index = -2
    assert errors(good) == []


def test_a_pyramid_head_without_a_neck(good):
    good.model.decode_head.update(type="UPerHead", in_channels=[24, 24], in_index=[0, 1])
    assert warnings(good) == [
        "model.decode_head (UPerHead) expects a pyramid, but all levels have the stride of the "
        "patch: add neck=dict(type='MultiLevelNeck', scales=[4, 2, 1, 0.5], ...)"
    ]


def test_missing_hooks(good):
    hooks = good.custom_hooks
    good.custom_hooks = hooks[1:]
    (no_init,) = errors(good)
    assert no_init == (
        "custom_hooks has no mmsn.StitchInitHook, so stitching layers would stay random: add "
        "dict(type='mmsn.StitchInitHook')"
    )
    good.custom_hooks = hooks[:1]
    (no_sampling,) = errors(good)
    assert no_sampling == (
        "custom_hooks has no mmsn.FLOPsConstrainedSamplingHook, so every iteration would train "
        "one stitch: add dict(type='mmsn.FLOPsConstrainedSamplingHook'), with stitches=[ID], "
        "parts=1 if one is meant"
    )
    good.custom_hooks = [dict(type="EMAHook")]
    assert errors(good) == [no_init, no_sampling]
    assert errors(good, training=False) == []
    good.load_from = "trained.pth"  # which holds the stitching layers
    assert errors(good) == [no_sampling]
    good.model.backbone.stitches = [1]
    assert errors(good) == []
    good.model.backbone.pop("stitches")
    good.model.backbone.anchors = good.model.backbone.anchors[1:]
    assert errors(good) == []


@HOOKS.register_module()
class SomebodysHook(Hook):
    """May draw stitches in a way of its own."""


def test_a_custom_hook_may_draw_stitches(good):
    good.custom_hooks = [good.custom_hooks[0], dict(type="mmengine.SomebodysHook")]
    assert errors(good) == []


def test_anchors_without_weights(good):
    del good.model.backbone.anchors[0]["checkpoint"]
    assert warnings(good) == [
        "anchors deit3_small_patch16_224 start from random weights: give each pretrained=True or "
        "checkpoint='FILE', unless this is meant"
    ]
    assert warnings(good, training=False) == []
    good.load_from = "trained.pth"
    assert warnings(good) == []


def test_the_normalization_of_the_anchors(good):
    names = ("vit_tiny_patch16_224.augreg_in21k", "vit_small_patch16_224.augreg_in21k")
    good.model.backbone.anchors = [dict(model_name=name, pretrained=True) for name in names]
    good.model.backbone.out_indices = (5, 11)
    good.model.decode_head.in_channels = 384
    assert warnings(good) == [
        "model.data_preprocessor has mean [123.675, 116.28, 103.53] and std [58.395, 57.12, "
        f"57.375], but {name} was pretrained with mean [127.5, 127.5, 127.5] and std [127.5, "
        "127.5, 127.5]: set those, unless this is meant"
        for name in names
    ]
    good.model.data_preprocessor.update(mean=[127.5] * 3, std=[127.5] * 3)
    assert warnings(good) == []
    good.model.data_preprocessor.bgr_to_rgb = False
    assert warnings(good) == [
        "model.data_preprocessor.bgr_to_rgb is False, but anchors were pretrained on RGB and "
        "images are loaded as BGR: set it to True"
    ]


def test_what_a_base_leaves_behind_without_delete(good):
    good.model.backbone.update(depth=50, num_stages=4)
    line = (
        "StitchedViT does not take depth, num_stages: if these come from the backbone of a base "
        "config, add _delete_=True to model.backbone, else remove them"
    )
    with pytest.raises(UserError) as refused:
        examine(good, training=False)
    assert str(refused.value) == line
    backbone = dict(good.model.backbone)
    backbone.pop("type")
    with pytest.raises(UserError) as refused:  # also for those who build it themselves
        StitchedViT(**backbone)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("constructor", "options"),
    [
        ("LayerDecayOptimizerConstructor", dict(num_layers=12, layer_decay_rate=0.8)),
        ("mmseg.LearningRateDecayOptimizerConstructor", dict(decay_rate=0.8)),
    ],
)
def test_layer_decay_of_mmseg(good, constructor, options):
    good.optim_wrapper.update(constructor=constructor, paramwise_cfg=options)
    assert errors(good) == [
        f"optim_wrapper.constructor {constructor!r} does not know anchors: use "
        "'mmsn.LayerDecayOptimizerConstructor' with paramwise_cfg=dict(decay_rate=0.8)"
    ]
    good.optim_wrapper.constructor = "mmsn.LayerDecayOptimizerConstructor"
    assert errors(good) == []


def test_options_left_from_the_optimizer_of_a_base(good):
    good.optim_wrapper.optimizer = dict(type="AdamW", lr=1e-4, momentum=0.9, _scope_="mmseg")
    assert errors(good) == [
        "optim_wrapper.optimizer: AdamW does not take momentum: if this comes from the optimizer "
        "of a base config, add _delete_=True to optim_wrapper.optimizer, else remove it"
    ]
    assert errors(good, training=False) == []
    good.optim_wrapper.optimizer = dict(type=torch.optim.AdamW, lr=1e-4, betas=(0.9, 0.999))
    assert errors(good) == []
    good.optim_wrapper.optimizer = dict(type="SomebodysOptimizer", momentum=0.9)
    assert errors(good) == []


BASE = """
optimizer = dict(type="SGD", lr=0.01)
optim_wrapper = dict(type="OptimWrapper", optimizer=optimizer)
"""


def test_an_old_optimizer(good, tmp_path):
    old = copy.deepcopy(good)
    old.pop("optim_wrapper")
    old.optimizer = dict(type="AdamW", lr=1e-4)
    line = (
        "optimizer={'type': 'AdamW', 'lr': 0.0001} is not read: set "
        "optim_wrapper=dict(optimizer=...) instead"
    )
    assert errors(old) == [line]

    good.pop("optim_wrapper")
    (tmp_path / "base.py").write_text(good.pretty_text + BASE)
    leaves = {
        "_base_ = 'base.py'\noptimizer = dict(_delete_=True, type='AdamW', lr=1e-4)": [line],
        "_base_ = 'base.py'": [],
        # a variable that is used
        "_base_ = 'base.py'\noptimizer = dict(lr=1)\noptim_wrapper = dict(optimizer=optimizer)": [],
        # another one that replaced what the base had used
        "_base_ = 'base.py'\noptim_wrapper = dict(optimizer=dict(lr=1))": [],
    }
    for number, (text, wanted) in enumerate(leaves.items()):
        file = tmp_path / f"leaf{number}.py"
        file.write_text(text)
        assert errors(Config.fromfile(file)) == wanted, text


def test_keys_of_mmseg_0(good):
    good.lr_config = dict(policy="poly")
    good.evaluation = dict(interval=10)
    assert errors(good) == [
        "evaluation is a key of mmseg 0.x, which nothing reads: set val_evaluator and "
        "train_cfg.val_interval",
        "lr_config is a key of mmseg 0.x, which nothing reads: set param_scheduler",
    ]


def test_mixed_precision_on_a_cpu(good, monkeypatch):
    good.optim_wrapper.type = "AmpOptimWrapper"
    monkeypatch.setattr(checks, "get_device", lambda: "cpu")
    assert errors(good) == [
        "AmpOptimWrapper (--amp) cannot train on cpu: leave it out, or use optim_wrapper.type "
        "'mmsn.Bf16OptimWrapper'"
    ]
    monkeypatch.setattr(checks, "get_device", lambda: "cuda")
    assert errors(good) == []


def test_a_loop_that_evaluates_one_unnamed_stitch(good):
    good.val_cfg, good.test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
    for training, key, loop in ((True, "val_cfg", "ValLoop"), (False, "test_cfg", "TestLoop")):
        assert warnings(good, training) == [
            f"{key}.type '{loop}' evaluates one stitch only, 1 (the largest anchor): name stitches "
            f"with dict(type='mmsn.Pareto{loop}', stitches=['anchors', 'middle'])"
        ]
    good.model.backbone.stitches = [4]  # as extracted: there is no other
    assert warnings(good) == warnings(good, training=False) == []


def test_all_errors_are_one_line(good):
    good.model.decode_head.update(in_channels=3, in_index=9)
    with pytest.raises(UserError, match=r"must be 24, .*; also: model\.decode_head\.in_index is 9"):
        examine(good, training=True).refuse()


def test_a_runner_is_refused_before_it_is_made(good):
    good.custom_hooks = []
    with pytest.raises(UserError, match=r"has no mmsn\.StitchInitHook"):
        make_runner(good, training=True)


@pytest.fixture
def told(monkeypatch):
    """What the backbone logs."""
    messages = []
    name = "mmsn.models.backbone.print_log"
    monkeypatch.setattr(name, lambda message, **options: messages.append((message, options)))
    return messages


def test_training_without_draws_says_so_once(told):
    anchors = [tiny_anchor(16, 2), tiny_anchor(24, 4)]
    backbone = StitchedViT(anchors, img_size=32, out_indices=(3,), rank=2)
    images = torch.zeros(2, 3, 32, 32)
    backbone.eval()(images)
    backbone.train()
    with backbone.use_stitch(2):
        backbone(images)
    backbone.set_training_stitches((0, 4))
    backbone(images)
    assert not told
    backbone.set_training_stitches(())
    backbone(images)
    backbone(images)
    line = (
        "Nothing draws stitches, so training runs stitch 1 alone: add "
        "dict(type='mmsn.StitchInitHook') and dict(type='mmsn.FLOPsConstrainedSamplingHook') to "
        "custom_hooks, or call set_stitch if one stitch is meant"
    )
    assert told == [(line, dict(logger="current", level=logging.WARNING))]


def test_chosen_stitches_need_no_warning(told):
    options = dict(img_size=32, out_indices=(3,), rank=2)
    chosen = StitchedViT([tiny_anchor(16, 2), tiny_anchor(24, 4)], **options)
    chosen.set_stitch(4)
    single = StitchedViT([tiny_anchor(24, 4)], **options)
    for backbone in (chosen, single):
        backbone.train()(torch.zeros(2, 3, 32, 32))
    assert not told


def test_levels_of_a_pyramid_have_widths_of_their_own(good):
    swin = tiny_swin_backbone()
    swin["anchors"] = [dict(anchor, checkpoint="a.pth") for anchor in swin["anchors"]]
    good.model = tiny_segmentor(swin, tiny_upernet(3, (16, 32, 64, 128)))
    assert errors(good) == warnings(good) == []  # no neck is missed
    good.model.decode_head.in_channels = [16, 32, 64, 64]
    good.model.auxiliary_head = tiny_head(3, in_index=2, in_channels=32)
    assert errors(good) == [
        "model.decode_head.in_channels is [16, 32, 64, 64], but must be [16, 32, 64, 128], the "
        "width of anchor swin_tiny_patch4_window7_224",
        "model.auxiliary_head.in_channels is 32, but must be 64, the width of anchor "
        "swin_tiny_patch4_window7_224",
    ]
    good.model.backbone.output_cls_token = True
    with pytest.raises(UserError, match="StitchedSwin does not take output_cls_token"):
        examine(good, training=True)
