"""Configs of DINOv3 are what their names say, and all combinations are there."""

import re

import pytest
from mmengine.config import Config

from tests.configs.leaves import LEAVES, as_list, by_stem

DINOV3 = [p for p in LEAVES if p.parent.name == "dinov3"]
DINOV3_NAME = re.compile(
    r"snnetv2_dinov3-(?P<key>s-b|s-l|b-l|s-b-l)-r(?P<rank>\d+)(?P<frozen>-frozen)?"
    r"_(?P<head>upernet|dpt|linear)_8xb2-(?P<iters>\d+)k"
    r"_(?P<data>ade20k|coco-stuff10k|nyuv2-seg|nyuv2-depth)-(?P<height>\d+)x(?P<width>\d+)"
)


@pytest.mark.parametrize("path", DINOV3, ids=by_stem)
def test_a_dinov3_config_is_what_its_name_says(path):
    name = DINOV3_NAME.fullmatch(path.stem)
    assert name, f"{path.stem} does not follow the scheme"
    config = Config.fromfile(path)
    model, backbone = config.model, config.model.backbone
    sizes, widths = dict(s="small", b="base", l="large"), dict(s=384, b=768, l=1024)
    keys = name["key"].split("-")
    for anchor, key in zip(backbone.anchors, keys, strict=True):
        assert anchor.model_name == f"vit_{sizes[key]}_patch16_dinov3.lvd1689m"
        assert anchor.pretrained
    assert backbone.rank == int(name["rank"])
    levels = (5, 11, 17, 23) if keys[-1] == "l" else (2, 5, 8, 11)
    assert tuple(backbone.out_indices) == (levels[-1:] if name["head"] == "linear" else levels)
    crop = int(name["height"]), int(name["width"])
    assert tuple(model.data_preprocessor.size) == crop
    assert [t.crop_size for t in config.train_pipeline if t.type == "RandomCrop"] == [crop]
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == int(name["iters"]) * 1000
    assert backbone.get("freeze_anchors", False) == bool(name["frozen"])
    assert (config.optim_wrapper.optimizer.lr == 1e-3) == bool(name["frozen"])
    head = model.decode_head
    kinds = dict(upernet="UPerHead", dpt="DPTHead", linear="FCNHead")
    if name["data"] == "nyuv2-depth":
        assert head.type == "mmsn." + kinds[name["head"]].replace("Head", "DepthHead")
        assert backbone.img_size == (480, 640)
    else:
        assert head.type == kinds[name["head"]]
        assert backbone.img_size == crop[0]
        assert tuple(model.test_cfg.crop_size) == crop
        classes = {"ade20k": 150, "coco-stuff10k": 171, "nyuv2-seg": 40}[name["data"]]
        assert {h.num_classes for h in [head, *as_list(model.get("auxiliary_head"))]} == {classes}
        sides = {t.scale[1] for t in config.test_pipeline if t.type == "Resize"}
        assert sides <= {crop[0]}
    width = model.neck.in_channels[0] if "neck" in model else head.in_channels
    assert (width if isinstance(width, int) else width[0]) == widths[keys[-1]]
    if name["head"] == "linear":
        assert (head.num_convs, head.kernel_size, head.act_cfg) == (1, 1, None)


def test_all_dinov3_combinations_are_there():
    found = [DINOV3_NAME.fullmatch(p.stem).groupdict() for p in DINOV3]
    trained = [f for f in found if not f["frozen"]]
    frozen = [f for f in found if f["frozen"]]
    pairs = {"s-b", "s-l", "b-l"}
    heads = {(key, head) for key in pairs for head in ("upernet", "dpt", "linear")}
    tasks = {
        *((data, crop) for data in ("ade20k", "coco-stuff10k") for crop in ("512", "896")),
        *(("nyuv2-seg", "480"), ("nyuv2-depth", "416")),
    }
    for recipe in (trained, frozen):
        assert heads <= {(f["key"], f["head"]) for f in recipe if f["data"] == "ade20k"}
        every = {(key, *task) for key in pairs for task in tasks}
        assert every <= {(f["key"], f["data"], f["height"]) for f in recipe}
        assert "s-b-l" in {f["key"] for f in recipe}  # a chain
