"""What an adoption does to normalization, optimizer, hooks and loops."""

import pytest
from mmengine.optim import build_optim_wrapper

from mmsn.adopt import adopt
from mmsn.models import build
from tests.adopt.names import BEIT, DEIT3, UPERNET, changed, mmseg_config, published
from tests.tiny import tiny_anchor


def test_normalization_is_that_of_the_last_anchor():
    augreg = published(
        "vit_small_patch16_224.augreg_in21k_ft_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k"
    )
    adoption = adopt(mmseg_config(UPERNET), augreg)
    preprocessor = adoption.config.model.data_preprocessor
    assert preprocessor.mean == preprocessor.std == [127.5] * 3
    assert "normalization of vit_base" in next(
        c.why for c in adoption.changes if c.key == "model.data_preprocessor.mean"
    )
    assert not any("pretrained with mean" in note for note in adoption.notes)

    mixed = adopt(mmseg_config(UPERNET), [augreg[0], DEIT3[1]])
    assert mixed.config.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert "model.data_preprocessor.mean" not in changed(mixed)
    (note,) = [note for note in mixed.notes if "pretrained with mean" in note]
    assert "(127.5, 127.5, 127.5)" in note
    assert "(123.675, 116.28, 103.53)" in note


def test_hooks_loops_and_imports():
    source = mmseg_config(UPERNET)
    source.custom_imports = dict(imports="math")
    source.custom_hooks = [dict(type="EMAHook")]
    source.load_from, source.model_wrapper_cfg = "old.pth", dict(type="MMDistributedDataParallel")
    config = adopt(source, DEIT3, stitches=["anchors", 25]).config
    assert config.custom_imports.imports == ["mmsn", "math"]
    assert [hook.type for hook in config.custom_hooks] == [
        "EMAHook",
        "mmsn.StitchInitHook",
        "mmsn.FLOPsConstrainedSamplingHook",
    ]
    assert config.custom_hooks[-1].stitches == ["anchors", 25]
    assert config.val_cfg == dict(type="mmsn.ParetoValLoop", stitches=["anchors", "middle"])
    assert config.test_cfg == dict(type="mmsn.ParetoTestLoop", stitches=["anchors", "middle"])
    assert config.find_unused_parameters
    assert config.model_wrapper_cfg.find_unused_parameters
    assert config.load_from is None


def test_layer_decay_is_ours_with_the_same_rate():
    wrapper = adopt(mmseg_config(BEIT), DEIT3).config.optim_wrapper
    assert wrapper.constructor == "mmsn.LayerDecayOptimizerConstructor"
    assert wrapper.paramwise_cfg == dict(decay_rate=0.9)


def test_one_rate_for_all_layers_is_kept_and_noted():
    adoption = adopt(mmseg_config(UPERNET), DEIT3)
    assert "constructor" not in adoption.config.optim_wrapper
    (note,) = [note for note in adoption.notes if "rates by layer" in note]
    assert "constructor='mmsn.LayerDecayOptimizerConstructor'" in note
    assert not any("rates by layer" in note for note in adopt(mmseg_config(BEIT), DEIT3).notes)


def test_a_slow_backbone_keeps_stitching_layers_fast():
    source = mmseg_config(UPERNET)
    source.optim_wrapper.paramwise_cfg = dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
    config = adopt(source, [tiny_anchor(32, 4), tiny_anchor(64, 8)], 4).config
    keys = config.optim_wrapper.paramwise_cfg.custom_keys
    assert keys.stitching_layers == dict(lr_mult=1.0)
    model = build(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    layer = next(iter(model.backbone.stitching_layers.values()))
    assert rates[id(layer.lora_A)] == pytest.approx(0.01)
    assert rates[id(model.backbone.anchor(0).vit.blocks[0].mlp.fc1.weight)] == pytest.approx(0.001)
