"""Every config builds, trains one step on a shrunken copy, and is what its name says."""

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsn.checks import Findings, examine
from mmsn.models import segmentor_macs, step_macs
from mmsn.stitching import budget_groups, default_step, draw_parts, resolve
from tests.configs.leaves import (
    LABEL_ASSISTED,
    LEAVES,
    MODELS_OF,
    SIZE,
    as_list,
    build,
    by_stem,
    segmentor_of,
    shrink,
)

FULL = [p for p in LEAVES if p.parent.name in ("setr", "upernet", "fpn")]
NAME = re.compile(
    r"snnetv2_(?P<pair>deit3-s-l|deit3-b-l|deit-ti-s)-r(?P<rank>\d+)_(?P<head>setr-naive|upernet|fpn)"
    r"_8xb2-(?P<iters>\d+)k_(?P<data>ade20k|coco-stuff10k|nyuv2-seg)-(?P<crop>\d+)x(?P=crop)"
)
DINOV3 = [p for p in LEAVES if p.parent.name == "dinov3"]
# Pairs and crops change no code that a step runs: one of each head, task and recipe is trained.
SAME_STEP = [
    p for p in DINOV3 if not re.search("-s-b-r.*_(ade20k-512|nyuv2-depth)|-s-b-l-", p.stem)
]
# Their models are no segmentors of mmseg, or wrap one; each folder has a test file of its own.
OTHER_MODELS = [p for p in LEAVES if p.parent.name in ("imagenet", "detection")] + LABEL_ASSISTED
TRAINED = [p for p in LEAVES if p not in [*SAME_STEP, *OTHER_MODELS]]
FRONTIER = [p for p in LEAVES if p.parent.name == "frontier"]
FRONTIER_NAME = re.compile(
    r"(?P<family>[a-z0-9-]+)_"
    r"(?P<method>small|large|elastic|snnet|snnet-windows|snnetv2|ours|parts|frozen"
    r"|learngene-pool|label-teacher|label-assisted)"
)
SNNET = [p for p in LEAVES if p.parent.name == "snnet"]
SNNET_NAME = re.compile(
    r"snnet_(?P<key>(?P<family>deit|swin)-ti-s-b)_(?P<head>setr-naive|upernet)"
    r"_8xb2-160k_ade20k-512x512"
)


def data_sample(classes, depth):
    """Labels where there are classes, and meters if asked."""
    sample = SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE)))
    if classes:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, SIZE, SIZE)))
    if depth:
        meters = PixelData(data=1 + 8 * torch.rand(1, SIZE, SIZE))
        sample.set_data(dict(gt_depth_map=meters))
    return sample


@pytest.mark.parametrize("path", TRAINED, ids=by_stem)
def test_a_shrunken_copy_trains_one_step(path):
    config = shrink(Config.fromfile(path))
    model = build(config)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    classes = config.model.decode_head.get("num_classes", 0)
    samples = [data_sample(classes, config.model.type != "EncoderDecoder") for _ in range(2)]
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(2)]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    for stitch in (model.backbone.space.ids[-1], 0):
        model.backbone.set_stitch(stitch)
        losses = model.train_step(dict(inputs=images, data_samples=samples), optimizer)
        assert all(torch.isfinite(v).all() for v in losses.values())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert any("conv_seg" in key for key in changed)
    trained = any("backbone.anchors.0" in key for key in changed)
    assert trained != config.model.backbone.get("freeze_anchors", False)

    for scheduler in config.param_scheduler:  # only now: a warm-up's first step moves nothing
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))

    model.eval()
    inputs = model.data_preprocessor(dict(inputs=images, data_samples=samples), False)["inputs"]
    with torch.no_grad():
        logits = model.encode_decode(inputs, [s.metainfo for s in samples])
    channels = classes + (config.model.type != "EncoderDecoder")  # depth is one more
    assert logits.shape == (2, channels, SIZE, SIZE)
    assert min(segmentor_macs(model, (SIZE, SIZE)).values()) > 0


@pytest.mark.parametrize("path", FULL, ids=by_stem)
def test_a_config_is_what_its_name_says(path):
    name = NAME.fullmatch(path.stem)
    assert name, f"{path.stem} does not follow the scheme"
    config, crop = Config.fromfile(path), int(name["crop"])
    backbone = config.model.backbone
    for anchor, model in zip(backbone.anchors, MODELS_OF[name["pair"]], strict=True):
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
    optimizer = config.optim_wrapper.optimizer
    if name["head"] == "setr-naive":
        assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("SGD", 0.01, 0.0)
        keys = config.optim_wrapper.paramwise_cfg.custom_keys
        assert keys.decode_head.lr_mult == keys.auxiliary_head.lr_mult == 10
        assert len(config.model.auxiliary_head) == 3
    else:
        assert optimizer.type == "AdamW"
    assert config.find_unused_parameters

    dataset, classes = {
        "ade20k": ("ADE20KDataset", 150),
        "coco-stuff10k": ("COCOStuffDataset", 171),
        "nyuv2-seg": ("mmsn.NYUv2SegDataset", 40),
    }[name["data"]]
    assert config.train_dataloader.dataset.type == dataset
    heads = [config.model.decode_head, *as_list(config.model.get("auxiliary_head"))]
    assert {head.num_classes for head in heads} == {classes}
    read = config.model.decode_head.get("in_index")
    if "neck" not in config.model:
        assert tuple(as_list(read)) == tuple(backbone.eval_levels)


def test_all_combinations_are_there():
    seen = Counter(NAME.fullmatch(p.stem).group("pair", "head", "data") for p in FULL)
    assert len(seen) == 27
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("path", SNNET, ids=by_stem)
def test_an_snnet_config_is_the_published_method(path):
    name = SNNET_NAME.fullmatch(path.stem)
    assert name, f"{path.stem} does not follow the scheme"
    config = Config.fromfile(path)
    backbone, hooks = config.model.backbone, {hook.type: hook for hook in config.custom_hooks}
    sizes = ("tiny", "small", "base")
    form = dict(deit="deit_{}_patch16_224", swin="swin_{}_patch4_window7_224")[name["family"]]
    for size, anchor in zip(sizes, backbone.anchors, strict=True):
        assert anchor.model_name.startswith(form.format(size) + ".")
        assert anchor.pretrained
    assert (backbone.space, backbone.rank, backbone.img_size) == ("one_way", 0, 512)
    assert not backbone.get("freeze_anchors", False)
    sampling = hooks["mmsn.FLOPsConstrainedSamplingHook"]
    assert (sampling.uniform, sampling.parts) == (True, 1)
    assert hooks["mmsn.StitchInitHook"].num_images == 100  # as published for classification
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == 160_000
    assert config.find_unused_parameters
    with torch.device("meta"):
        model = build(config)
    assert len(model.backbone.space) == dict(deit=71, swin=41)[name["family"]]
    assert examine(config, training=True) == Findings()


def test_all_snnet_configs_are_there():
    found = {SNNET_NAME.fullmatch(path.stem).group("key", "head") for path in SNNET}
    deit = {("deit-ti-s-b", head) for head in ("setr-naive", "upernet")}
    assert found == deit | {("swin-ti-s-b", "upernet")}


@pytest.mark.parametrize("path", FRONTIER, ids=by_stem)
def test_a_frontier_config_is_its_method_and_costs_what_all_cost(path):
    name = FRONTIER_NAME.fullmatch(path.stem)
    assert name, f"{path.stem} does not follow the scheme"
    config = Config.fromfile(path)
    backbone, method = segmentor_of(config).backbone, name["method"]
    hooks = {hook.type: hook for hook in config.custom_hooks}
    sampling = hooks.get("mmsn.FLOPsConstrainedSamplingHook", {})
    space = backbone.get("space", "two_way")
    alone = method in ("small", "large", "label-teacher")
    spaces = {"elastic": "elastic", "snnet-windows": "one_way"}
    assert space == spaces.get(method, "two_way")
    small_to_large = [*range(7 if "6-12" in name["family"] else 13)]
    assert backbone.get("stitches") == (small_to_large if method == "snnet" else None)
    snnet = method in ("snnet", "snnet-windows")
    assert (backbone.rank == 0) == snnet
    assert len(backbone.anchors) == (1 if alone or method == "elastic" else 2)
    assert bool(sampling) != alone
    assert sampling.get("uniform", False) == snnet
    assert ("parts" not in sampling) == (method not in ("elastic", "snnetv2") and not snnet)
    assert ("stitches" in sampling) == (method in ("elastic", "ours"))
    assert backbone.get("freeze_anchors", False) == (method == "frozen")
    assert config.param_scheduler[-1].end == config.train_cfg.max_iters
    assert "mmsn.TrainingCostHook" in hooks

    # What the weights of the training's start or its teacher cost counts as well.
    before = hooks["mmsn.TrainingCostHook"].get("before_macs", 0)
    if method == "label-assisted":
        teacher = path.with_name(f"{name['family']}_label-teacher.py")
        assert before == cost_of_training(teacher)
        assert before + cost_of_training(path) == pytest.approx(3 * before, rel=0.05)
    else:
        assert before == 0
    if method == "label-teacher":
        return
    # The draws of one seed scatter by about 1 % where each iteration trains one stitch.
    large = cost_of_training(path.with_name("deit-ti-6-12_large.py"))
    anchors = 2 if name["family"].endswith("-twice") else 1
    assert before + cost_of_training(path) == pytest.approx(anchors * large, rel=0.02)


@pytest.mark.parametrize("path", [p for p in FRONTIER if "-twice_" in p.stem], ids=by_stem)
def test_length_is_all_that_differs_from_the_family_with_half_the_compute(path):
    half = "deit-ti-6-12-depth_" if "depth" in path.stem else "deit-ti-6-12-layerwise_"
    twice, once = (
        Config.fromfile(path.with_name(name)).to_dict()
        for name in (path.name, half + path.name.rpartition("_")[2])
    )
    lengths = [c.pop("train_cfg").pop("max_iters") for c in (twice, once)]
    assert lengths[0] == 2 * lengths[1]
    assert [c["param_scheduler"][-1].pop("end") for c in (twice, once)] == lengths
    assert twice == once


@pytest.mark.parametrize("path", [p for p in FRONTIER if "-layerwise_" in p.stem], ids=by_stem)
def test_layer_wise_rates_are_all_that_differs(path):
    rates, flat = (
        Config.fromfile(path.with_name(name)).to_dict()
        for name in (path.name, path.name.replace("-layerwise", ""))
    )
    optimizer = rates.pop("optim_wrapper")
    assert optimizer["constructor"] == "mmsn.LayerDecayOptimizerConstructor"
    assert optimizer["optimizer"] == flat.pop("optim_wrapper")["optimizer"]
    assert rates == flat


@cache
def cost_of_training(path):
    """Multiply-accumulates of a whole training, forward and backward, from its draws."""
    config = Config.fromfile(path)
    for anchor in segmentor_of(config).backbone.anchors:
        anchor.checkpoint = None
    with torch.device("meta"):
        model = build(config)
    backbone, batch = model.backbone, config.train_dataloader.batch_size
    macs, groups, parts = step_macs(model, backbone.img_size), ((0,),), 1
    for hook in config.custom_hooks:
        if hook.type == "mmsn.FLOPsConstrainedSamplingHook":
            inference = segmentor_macs(model, backbone.img_size)
            step = hook.get("step", default_step(inference, backbone.space.ladder))
            step = float("inf") if hook.get("uniform") else step
            ids = resolve(backbone.space, inference, hook.get("stitches", "all"))
            groups = budget_groups({i: inference[i] for i in ids}, step)
            parts = hook.get("parts", 4)
    assert batch % parts == 0
    drawn = [draw_parts(groups, 0, i, parts) for i in range(config.train_cfg.max_iters)]
    return sum(batch // parts * macs[i] for stitches in drawn for i in stitches)


def test_the_pool_of_the_frontier_is_what_the_tool_writes_and_else_as_parts():
    found, parts = (
        Config.fromfile(path)
        for path in FRONTIER
        if path.stem in ("deit-ti-6-12_learngene-pool", "deit-ti-6-12_parts")
    )
    small, large = found.model.backbone.anchors
    assert Path(small.checkpoint).name == "instance_0_6x192.safetensors"
    assert large == parts.model.backbone.anchors[1]  # the ancestor
    start, *hooks = found.custom_hooks
    assert (start.type, Path(start.matrices).name) == (
        "mmsn.MatrixInitHook",
        "matrices.safetensors",
    )
    assert hooks == parts.custom_hooks[1:]
    found.model.backbone.anchors = parts.model.backbone.anchors
    for key in ("model", "test_cfg", "param_scheduler", "train_cfg", "optim_wrapper"):
        assert found[key] == parts[key]


def test_every_family_of_the_frontier_has_its_methods():
    found = defaultdict(set)
    for path in FRONTIER:
        name = FRONTIER_NAME.fullmatch(path.stem)
        found[name["family"]].add(name["method"])
    first, rates = "deit-ti-6-12", "deit-ti-6-12-layerwise"
    twice = {"deit-ti-6-12-twice", "deit-ti-6-12-depth-twice"}
    assert found.keys() == {first, rates, "deit-ti-w96", "deit-ti-6-12-depth"} | twice
    assert found["deit-ti-6-12-twice"] == {"small", "large", "elastic", "snnetv2", "ours"}
    assert found["deit-ti-6-12-depth-twice"] == {"ours"}
    assert found[rates] == {"small", "large", "elastic", "snnet", "snnetv2", "ours"}
    assert found[rates] < found[first]
    # The large anchor is that of the first family with layer-wise rates.
    assert found["deit-ti-w96"] == {"small", "elastic", "snnet", "snnetv2", "ours"}
    assert found["deit-ti-6-12-depth"] == {"small", "large", "ours"}


def test_base_names_are_unique_and_leaves_short():
    names = Counter(path.name for path in LEAVES)
    assert not [name for name, count in names.items() if count > 1]  # mim looks them up by name
    for path in LEAVES:
        assert len(path.read_text().splitlines()) <= 40, path


def bases_of(path):
    """The files that a config names in ``_base_``, read without running it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "_base_":
            names = ast.literal_eval(node.value)
            return [path.parent / name for name in ([names] if isinstance(names, str) else names)]
    return []


def levels(path):
    return 1 + max(map(levels, bases)) if (bases := bases_of(path)) else 0


def test_no_config_inherits_over_more_than_three_levels():
    assert {path.stem: levels(path) for path in LEAVES if levels(path) > 3} == {}


def test_no_two_leaves_differ_in_one_line():
    """What they share belongs into a recipe; a comment that names the anchors does not count."""
    seen = {}
    for path in LEAVES:
        lines = [x for x in path.read_text().splitlines() if not x.startswith("#")]
        if len(lines) > 15:  # a shorter leaf holds little else than what differs
            seen[path.stem] = lines
    for name, lines in seen.items():
        for other, others in seen.items():
            if name < other and len(lines) == len(others):
                different = sum(a != b for a, b in zip(lines, others, strict=True))
                assert different > 1, f"{name} and {other}"


@pytest.mark.parametrize("path", [p for p in LEAVES if p.parent.name == "published"], ids=by_stem)
def test_a_published_config_has_anchors_without_weights_of_their_own(path):
    config = Config.fromfile(path)
    assert config.model.backbone.anchors == config.anchors
    for anchor in config.anchors:
        assert anchor.rel_pos_bias
        assert not {"pretrained", "checkpoint"} & set(anchor)


POOL = [p for p in LEAVES if p.parent.name == "learngene_pool"]


@pytest.mark.parametrize("path", POOL, ids=by_stem)
def test_a_pool_is_trained_alike_from_either_start(path):
    config = Config.fromfile(path)
    backbone, (start, sampling, _) = config.model.backbone, config.custom_hooks
    assert [(a.depth, a.embed_dim) for a in backbone.anchors] == [(6, 128), (6, 192)]
    for number, anchor in enumerate(backbone.anchors):
        name = f"instance_{number}_{anchor.depth}x{anchor.embed_dim}.safetensors"
        assert Path(anchor.checkpoint).name == name  # as the tool writes it
    assert (backbone.space, backbone.rank) == ("one_way", 0)
    assert (sampling.uniform, sampling.parts) == (True, 1)
    kind = "MatrixInitHook" if path.stem.endswith("_matrices") else "StitchInitHook"
    assert start.type == f"mmsn.{kind}"
