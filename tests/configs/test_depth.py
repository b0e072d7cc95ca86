"""Configs of depth follow the recipe of docs/depth-models.md, and their names."""

import re
from collections import Counter

import pytest
import torch
from mmcv.cnn import is_norm
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from tests.configs.leaves import LEAVES, MODELS_OF, build, by_stem, shrink

DEPTH = [p for p in LEAVES if p.parent.name == "depth"]
DEPTH_NAME = re.compile(
    r"snnetv2_(?P<pair>deit3-s-l|deit3-b-l|deit-ti-s)-r(?P<rank>\d+)_(?P<head>dpt|upernet|fpn)"
    r"_8xb2-36k_(?P<data>nyuv2-depth(-raw)?)-416x544"
)
DEPTH_SCHEDULE_USER = next(p for p in DEPTH if "s-l-r16_upernet" in p.stem)
MULTI_TASK = next(p for p in LEAVES if p.stem.endswith("nyuv2-seg-depth-480x480"))


@pytest.mark.parametrize("path", DEPTH, ids=by_stem)
def test_a_depth_config_follows_the_recipe_and_its_name(path):
    name = DEPTH_NAME.fullmatch(path.stem)
    assert name, f"{path.stem} does not follow the scheme"
    config = Config.fromfile(path)
    model, backbone = config.model, config.model.backbone
    for anchor, known in zip(backbone.anchors, MODELS_OF[name["pair"]], strict=True):
        assert anchor.model_name.startswith(known + "_patch16_224")
        assert anchor.pretrained
        assert ("drop_path_rate" not in anchor) == (name["pair"] != "deit-ti-s")
    assert backbone.rank == int(name["rank"]) == {"deit3-b-l": 4}.get(name["pair"], 16)
    assert backbone.img_size == (480, 640)
    if name["pair"] != "deit-ti-s":
        assert backbone.out_indices == (4, 11, 17, 23)
    assert tuple(model.data_preprocessor.size) == (416, 544)
    assert [round(m, 3) for m in model.data_preprocessor.mean] == [123.675, 116.28, 103.53]
    assert model.type == "mmsn.DepthEstimator"
    assert model.test_cfg == dict(mode="whole", flip=True)
    head = model.decode_head
    assert head.type == f"mmsn.{dict(dpt='DPT', upernet='UPer', fpn='FPN')[name['head']]}DepthHead"
    assert (head.min_depth, head.max_depth) == (1e-3, 10)
    if name["head"] == "dpt":
        assert backbone.output_cls_token
        assert head.post_process_channels == [96, 192, 384, 768]
        assert (head.channels, head.readout_type, "norm_cfg" in head) == (256, "project", False)
    raw = config.train_dataloader.dataset.data_root == "data/nyu"
    assert raw == (name["data"] == "nyuv2-depth-raw")
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == 36_000
    images = 8 * config.train_dataloader.batch_size * config.train_cfg.max_iters
    assert images / 24_231 == pytest.approx(24, abs=0.25)  # epochs of the raw list
    wrapper = config.optim_wrapper
    assert (wrapper.optimizer.type, wrapper.optimizer.weight_decay) == ("AdamW", 0.01)
    assert wrapper.clip_grad.max_norm == 35


def test_all_depth_combinations_are_there():
    seen = Counter(DEPTH_NAME.fullmatch(p.stem).group("pair", "head", "data") for p in DEPTH)
    assert set(seen.values()) == {1}
    assert len([key for key in seen if key[2] == "nyuv2-depth-raw"]) == 9
    assert {key[:2] for key in seen if key[2] == "nyuv2-depth"} == {(m, "dpt") for m in MODELS_OF}


@pytest.mark.parametrize("path", [DEPTH_SCHEDULE_USER, MULTI_TASK], ids=by_stem)
def test_heads_learn_ten_times_faster_than_the_backbone_at_every_iteration(path):
    config = shrink(Config.fromfile(path))
    model = build(config)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, groups = set(), {"backbone": [], "head": []}
    for group in optimizer.optimizer.param_groups:
        for name in (names[id(p)] for p in group["params"]):
            groups["backbone" if name.startswith("backbone.") else "head"].append(group)
            if group["weight_decay"]:
                decayed.add(name)
    undecayed = {n for n in names.values() if n.startswith("backbone.anchors")} - decayed
    kinds = ("pos_embed", "cls_token", "gamma", "norm1.", "norm2.", "norm1.bias", "norm2.bias")
    assert undecayed
    assert all(any(kind in name for kind in kinds) for name in undecayed)
    assert "backbone.anchors.1.vit.blocks.0.mlp.fc1.weight" in decayed
    norms = {name for name, module in model.named_modules() if is_norm(module)}
    assert any("_head" in name for name in norms)
    assert not decayed & {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}
    (slow,) = {group["lr"] for group in groups["backbone"]}
    (fast,) = {group["lr"] for group in groups["head"]}
    assert fast == pytest.approx(10 * slow)
    twin = torch.optim.SGD(  # one group of each rate, because 600 are slow to schedule
        [dict(params=[torch.zeros(1)], lr=slow), dict(params=[torch.zeros(1)], lr=fast)], lr=1.0
    )
    schedulers = [
        PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=twin))
        for cfg in config.param_scheduler
    ]
    peak, rates = 2e-5, []
    for _ in range(config.train_cfg.max_iters):
        slow, fast = (group["lr"] for group in twin.param_groups)
        assert fast == pytest.approx(10 * slow, rel=1e-6)
        rates.append(slow)
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(peak / 25)
    assert max(rates) == pytest.approx(peak)
    assert rates.index(max(rates)) == pytest.approx(0.3 * len(rates), abs=2)
    assert rates[-1] == pytest.approx(peak / 2500, rel=1e-2)
