"""Every config builds, trains one step on a shrunken copy, and is what its name says."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmcv.cnn import is_norm
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsn.checks import Findings, examine
from mmsn.models import segmentor_macs, training_macs
from mmsn.stitching import budget_groups, default_step, draw_parts

ROOT = Path(__file__).parents[2]
MODELS_OF = {
    "deit3-s-l": ["deit3_small", "deit3_large"],
    "deit3-b-l": ["deit3_base", "deit3_large"],
    "deit-ti-s": ["deit_tiny", "deit_small"],
}
LEAVES = sorted(p for p in (ROOT / "configs").rglob("*.py") if "_base_" not in p.parts)
FULL = [p for p in LEAVES if p.parent.name in ("setr", "upernet", "fpn")]
NAME = re.compile(
    r"snnetv2_(?P<pair>deit3-s-l|deit3-b-l|deit-ti-s)-r(?P<rank>\d+)_(?P<head>setr-naive|upernet|fpn)"
    r"_8xb2-(?P<iters>\d+)k_(?P<data>ade20k|coco-stuff10k|nyuv2-seg)-(?P<crop>\d+)x(?P=crop)"
)
DEPTH = [p for p in LEAVES if p.parent.name == "depth"]
DEPTH_NAME = re.compile(
    r"snnetv2_(?P<pair>deit3-s-l|deit3-b-l|deit-ti-s)-r(?P<rank>\d+)_(?P<head>dpt|upernet|fpn)"
    r"_8xb2-36k_(?P<data>nyuv2-depth(-raw)?)-416x544"
)
DEPTH_SCHEDULE_USER = next(p for p in DEPTH if "s-l-r16_upernet" in p.stem)
MULTI_TASK = next(p for p in LEAVES if p.stem.endswith("nyuv2-seg-depth-480x480"))
DINOV3 = [p for p in LEAVES if p.parent.name == "dinov3"]
DINOV3_NAME = re.compile(
    r"snnetv2_dinov3-(?P<key>s-b|s-l|b-l|s-b-l)-r(?P<rank>\d+)(?P<frozen>-frozen)?"
    r"_(?P<head>upernet|dpt|linear)_8xb2-(?P<iters>\d+)k"
    r"_(?P<data>ade20k|coco-stuff10k|nyuv2-seg|nyuv2-depth)-(?P<height>\d+)x(?P<width>\d+)"
)
# Pairs and crops change no code that a step runs: one of each head, task and recipe is trained.
SAME_STEP = [
    p for p in DINOV3 if not re.search("-s-b-r.*_(ade20k-512|nyuv2-depth)|-s-b-l-", p.stem)
]
TRAINED = [p for p in LEAVES if p not in SAME_STEP]
FRONTIER = [p for p in LEAVES if p.parent.name == "frontier"]
FRONTIER_NAME = re.compile(
    r"(?P<family>[a-z0-9-]+)_(?P<method>small|large|elastic|snnet|snnet-windows|snnetv2|ours|frozen)"
)
SNNET = [p for p in LEAVES if p.parent.name == "snnet"]
SNNET_NAME = re.compile(
    r"snnet_(?P<key>(?P<family>deit|swin)-ti-s-b)_(?P<head>setr-naive|upernet)"
    r"_8xb2-160k_ade20k-512x512"
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
    if backbone.type == "mmsn.StitchedSwin":
        for anchor in backbone.anchors:
            anchor.num_heads = (1, 2, 2, 2)
            anchor.depths = (2, 2, 2, 2)
        model.decode_head.update(in_channels=[32, 64, 128, 256], channels=8)
        model.auxiliary_head.update(in_channels=128, channels=8)
        return config
    if "neck" in model:
        model.neck.update(in_channels=[32] * len(model.neck.in_channels), out_channels=8)
    heads = [model.decode_head, *_as_list(model.get("auxiliary_head"))]
    heads += _as_list(model.get("depth_head"))
    for head in heads:
        reads_neck = "neck" in model
        width = 8 if reads_neck else 32
        many = isinstance(head.in_index, (list, tuple)) if "in_index" in head else False
        head.in_channels = [width] * len(head.in_index) if many else width
        head.channels = width if head.get("num_convs") == 0 else 8
        if "embed_dims" in head:
            head.embed_dims = 32
        if "post_process_channels" in head:
            head.post_process_channels = [4, 8, 8, 8]
    return config


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def build(config):
    init_default_scope(config.default_scope)
    return revert_sync_batchnorm(MODELS.build(config.model))


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
    heads = [config.model.decode_head, *_as_list(config.model.get("auxiliary_head"))]
    assert {head.num_classes for head in heads} == {classes}
    read = config.model.decode_head.get("in_index")
    if "neck" not in config.model:
        assert tuple(_as_list(read)) == tuple(backbone.eval_levels)


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


def test_all_combinations_are_there():
    seen = Counter(NAME.fullmatch(p.stem).group("pair", "head", "data") for p in FULL)
    assert len(seen) == 27
    assert set(seen.values()) == {1}


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
        assert {h.num_classes for h in [head, *_as_list(model.get("auxiliary_head"))]} == {classes}
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
    backbone, method = config.model.backbone, name["method"]
    hooks = {hook.type: hook for hook in config.custom_hooks}
    sampling = hooks.get("mmsn.FLOPsConstrainedSamplingHook", {})
    space = backbone.get("space", "two_way")
    alone = method in ("small", "large")
    spaces = {"elastic": "elastic", "snnet-windows": "one_way"}
    assert space == spaces.get(method, "two_way")
    assert backbone.get("stitches") == ([*range(7)] if method == "snnet" else None)
    snnet = method in ("snnet", "snnet-windows")
    assert (backbone.rank == 0) == snnet
    assert len(backbone.anchors) == (1 if alone or method == "elastic" else 2)
    assert bool(sampling) != alone
    assert sampling.get("uniform", False) == snnet
    assert ("parts" not in sampling) == (method not in ("elastic", "snnetv2") and not snnet)
    assert backbone.get("freeze_anchors", False) == (method == "frozen")
    assert config.param_scheduler[-1].end == config.train_cfg.max_iters
    assert "mmsn.TrainingCostHook" in hooks

    # The draws of one seed scatter by about 1 % where each iteration trains one stitch.
    large = path.with_name(f"{name['family']}_large.py")
    assert cost_of_training(config) == pytest.approx(
        cost_of_training(Config.fromfile(large)), rel=0.02
    )


def cost_of_training(config):
    """Multiply-accumulates of a whole training, forward and backward, from its draws."""
    for anchor in config.model.backbone.anchors:
        anchor.checkpoint = None
    with torch.device("meta"):
        model = build(config)
    backbone, batch = model.backbone, config.train_dataloader.batch_size
    macs, groups, parts = training_macs(model, backbone.img_size), ((0,),), 1
    for hook in config.custom_hooks:
        if hook.type == "mmsn.FLOPsConstrainedSamplingHook":
            inference = segmentor_macs(model, backbone.img_size)
            step = hook.get("step", default_step(inference, backbone.space.ladder))
            step = float("inf") if hook.get("uniform") else step
            groups, parts = budget_groups(inference, step), hook.get("parts", 4)
    assert batch % parts == 0
    drawn = [draw_parts(groups, 0, i, parts) for i in range(config.train_cfg.max_iters)]
    return sum(3 * batch // parts * macs[i] for stitches in drawn for i in stitches)


def test_every_family_of_the_frontier_has_every_method():
    found = [FRONTIER_NAME.fullmatch(path.stem).groupdict() for path in FRONTIER]
    methods = {"small", "large", "elastic", "snnet", "snnetv2", "ours"}
    for family in {f["family"] for f in found}:
        assert methods <= {f["method"] for f in found if f["family"] == family}


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
