"""Every config builds, trains one step on a shrunken copy, and is what its name says."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsn.models import segmentor_macs

ROOT = Path(__file__).parents[2]
LEAVES = sorted(p for p in (ROOT / "configs").rglob("*.py") if "_base_" not in p.parts)
FULL = [p for p in LEAVES if p.parent.name in ("setr", "upernet", "fpn")]
NAME = re.compile(
    r"snnetv2_(?P<pair>deit3-s-l|deit3-b-l|deit-ti-s)-r(?P<rank>\d+)_(?P<head>setr-naive|upernet|fpn)"
    r"_8xb2-(?P<iters>\d+)k_(?P<data>ade20k|coco-stuff10k|nyuv2-seg)-(?P<crop>\d+)x(?P=crop)"
)
SIZE = 64  # of a shrunken crop


def by_stem(path):
    return path.stem


def shrink(config):
    """The same architecture, narrow: widths of 32 for the last anchor and 16 for the others."""
    backbone, model = config.model.backbone, config.model
    for anchor in backbone.anchors:
        anchor.pretrained = False
        anchor.checkpoint = None
        anchor.update(embed_dim=16, num_heads=2)
    backbone.anchors[-1].embed_dim = 32
    backbone.rank = min(backbone.get("rank", 16), 4)
    backbone.img_size = SIZE
    model.data_preprocessor.size = (SIZE, SIZE)
    if "neck" in model:
        model.neck.update(in_channels=[32] * len(model.neck.in_channels), out_channels=8)
    heads = [model.decode_head, *_as_list(model.get("auxiliary_head"))]
    for head in heads:
        reads_neck = "neck" in model
        width = 8 if reads_neck else 32
        many = isinstance(head.in_index, (list, tuple)) if "in_index" in head else False
        head.in_channels = [width] * len(head.in_index) if many else width
        head.channels = width if head.get("num_convs") == 0 else 8
    return config


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def build(config):
    init_default_scope(config.default_scope)
    return revert_sync_batchnorm(MODELS.build(config.model))


@pytest.mark.parametrize("path", LEAVES, ids=by_stem)
def test_a_shrunken_copy_trains_one_step(path):
    config = shrink(Config.fromfile(path))
    model = build(config)
    optimiser = build_optim_wrapper(model, config.optim_wrapper)
    classes = config.model.decode_head.num_classes
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, classes, (1, SIZE, SIZE))),
            metainfo=dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE)),
        )
        for _ in range(2)
    ]
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(2)]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    for stitch in (model.backbone.space.ids[-1], 0):
        model.backbone.set_stitch(stitch)
        losses = model.train_step(dict(inputs=images, data_samples=samples), optimiser)
        assert all(torch.isfinite(v).all() for v in losses.values())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert any("conv_seg" in key for key in changed)
    if not config.model.backbone.get("freeze_anchors"):
        assert any("backbone.anchors.0" in key for key in changed)

    for scheduler in config.param_scheduler:  # only now: a warm-up's first step moves nothing
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimiser))

    model.eval()
    inputs = model.data_preprocessor(dict(inputs=images, data_samples=samples), False)["inputs"]
    with torch.no_grad():
        logits = model.encode_decode(inputs, [s.metainfo for s in samples])
    assert logits.shape == (2, classes, SIZE, SIZE)
    assert min(segmentor_macs(model, (SIZE, SIZE)).values()) > 0


@pytest.mark.parametrize("path", FULL, ids=by_stem)
def test_a_config_is_what_its_name_says(path):
    name = NAME.fullmatch(path.stem)
    assert name, f"{path.stem} does not follow the scheme"
    config, crop = Config.fromfile(path), int(name["crop"])
    backbone = config.model.backbone
    models = {
        "deit3-s-l": ["deit3_small", "deit3_large"],
        "deit3-b-l": ["deit3_base", "deit3_large"],
        "deit-ti-s": ["deit_tiny", "deit_small"],
    }[name["pair"]]
    for anchor, model in zip(backbone.anchors, models, strict=True):
        assert anchor.model_name.startswith(model + "_patch16_224")
        assert anchor.pretrained
    assert backbone.rank == int(name["rank"])
    assert backbone.img_size == crop
    assert tuple(config.model.data_preprocessor.size) == (crop, crop)
    assert tuple(config.model.test_cfg.crop_size) == (crop, crop)
    crops = [t.crop_size for t in config.train_pipeline if t.type == "RandomCrop"]
    assert crops == [(crop, crop)]

    iters = int(name["iters"]) * 1000
    assert config.train_cfg.max_iters == iters
    assert config.param_scheduler[-1].end == iters
    assert config.train_dataloader.batch_size == 2
    optimiser = config.optim_wrapper.optimizer
    if name["head"] == "setr-naive":
        assert (optimiser.type, optimiser.lr, optimiser.weight_decay) == ("SGD", 0.01, 0.0)
        keys = config.optim_wrapper.paramwise_cfg.custom_keys
        assert keys.decode_head.lr_mult == keys.auxiliary_head.lr_mult == 10
        assert len(config.model.auxiliary_head) == 3
    else:
        assert optimiser.type == "AdamW"
    assert config.find_unused_parameters

    dataset, classes = {
        "ade20k": ("ADE20KDataset", 150),
        "coco-stuff10k": ("COCOStuffDataset", 171),
        "nyuv2-seg": ("mmsn.NYUv2SegDataset", 40),
    }[name["data"]]
    assert config.train_dataloader.dataset.type == dataset
    heads = [config.model.decode_head, *_as_list(config.model.get("auxiliary_head"))]
    assert {head.num_classes for head in heads} == {classes}
    read = config.model.decode_head.get("in_index")
    if "neck" not in config.model:
        assert tuple(_as_list(read)) == tuple(backbone.eval_levels)


def test_all_combinations_are_there():
    seen = Counter(NAME.fullmatch(p.stem).group("pair", "head", "data") for p in FULL)
    assert len(seen) == 27
    assert set(seen.values()) == {1}


def test_base_names_are_unique_and_leaves_short():
    names = Counter(path.name for path in LEAVES)
    assert not [name for name, count in names.items() if count > 1]  # mim looks them up by name
    for path in LEAVES:
        assert len(path.read_text().splitlines()) <= 40, path
