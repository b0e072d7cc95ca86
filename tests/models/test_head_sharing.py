"""Modules that read one level: which they are, that they run once, and that no bit changes."""

import copy
from itertools import pairwise

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from mmsn.models.complexity import NeckAndHeads, head_macs
from mmsn.models.depth_heads import levels_for
from mmsn.models.head_sharing import LevelMemo, level_modules
from mmsn.models.tracing import Origins, on_meta
from tests.models.dense_models import DPT, MULTI_TASK_MODEL
from tests.tiny import tiny_backbone, tiny_head, tiny_segmentor

NECK = dict(type="MultiLevelNeck", in_channels=[24] * 4, out_channels=8, scales=[4, 2, 1, 0.5])
LEVELS = dict(in_index=[0, 1, 2, 3], channels=8, num_classes=5, norm_cfg=dict(type="BN"))
UPERNET = dict(type="UPerHead", in_channels=[8] * 4, **LEVELS)
FPN = dict(type="FPNHead", in_channels=[8] * 4, feature_strides=[4, 8, 16, 32], **LEVELS)
SETR = tiny_head(5, in_index=3)
CASES = {
    "upernet": (UPERNET, NECK),
    "upernet without neck": (UPERNET | dict(in_channels=[24] * 4), None),
    "fpn": (FPN, NECK),
    "dpt": (DPT, None),
    "setr": (SETR, None),
}


def build(name, neck=None):
    init_default_scope("mmseg")
    head, neck = CASES[name]
    kind = "mmsn.DepthEstimator" if head is DPT else "EncoderDecoder"
    backbone = tiny_backbone((4, 8), (1, 3, 5, 7), 64, output_cls_token=head is DPT)
    config = tiny_segmentor(backbone, head, kind, size=(64, 64))
    model = MODELS.build(ConfigDict(config | (dict(neck=neck) if neck else {}))).eval()
    with torch.no_grad():  # a BN that changes nothing would hide a mistake
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def names(model, levels=range(4)):
    modules = {id(module): name for name, module in model.named_modules()}
    return {modules[id(module)] for module in level_modules(model, levels)}


def test_modules_that_read_one_level():
    convs = {f"neck.{kind}.{i}" for kind in ("lateral_convs", "convs") for i in range(4)}
    laterals = {f"decode_head.lateral_convs.{i}" for i in range(3)}
    pyramid = {"decode_head.psp_modules", "decode_head.bottleneck"}
    assert names(build("upernet")) == convs | laterals | pyramid
    assert names(build("upernet"), {0, 2}) == {n for n in convs | laterals if n[-1] in "02"}
    assert names(build("fpn")) == convs | {f"decode_head.scale_heads.{i}" for i in range(4)}
    reassemble = "decode_head.reassemble_blocks"
    parts = {f"{reassemble}.readout_projects.{i}" for i in range(4)}
    parts |= {f"{reassemble}.projects.{i}" for i in range(4)}
    parts |= {f"{reassemble}.resize_layers.{i}" for i in (0, 1, 3)}  # 2 has no parameters
    parts |= {f"decode_head.convs.{i}" for i in range(4)}
    residuals = {f"decode_head.fusion_blocks.{i}.res_conv_unit1" for i in (1, 2, 3)}
    assert names(build("dpt"), {0, 1, 2}) == {n for n in parts if n[-1] != "3"} | residuals
    assert names(build("setr"), {0, 1, 2}) == set()


def test_both_heads_of_a_multi_task_model_take_part():
    init_default_scope("mmseg")
    model = MODELS.build(ConfigDict(MULTI_TASK_MODEL)).eval()
    found = names(model, {0, 1})
    assert "depth_head.convs.1" in found
    assert not any(name.startswith("decode_head") for name in found)  # it reads the last level


def outputs(model, images, share, mutate=False, memo=None):
    """Heads' outputs of all stitches for several crops, and how often a convolution ran."""
    backbone, heads = model.backbone, NeckAndHeads(model)
    trie = backbone.trie(backbone.space.ids)
    passes = backbone.share_prefixes(trie)
    memo = memo or LevelMemo(level_modules(model, trie.shared_levels()) if share else ())
    found, runs = {}, []
    with torch.no_grad(), memo.share():
        watched = [m for m in heads.modules() if isinstance(m, nn.Conv2d)]
        forwards = [m.forward for m in watched]
        for conv, forward in zip(watched, forwards, strict=True):
            conv.forward = lambda x, forward=forward: runs.append(1) or forward(x)
        try:
            for stitch in trie.order:
                memo.begin()
                with backbone.use_stitch(stitch, passes):
                    found[stitch] = [heads(*backbone(image))[0] for image in images]
        finally:
            for conv in watched:
                del conv.forward
    return found, len(runs)


@pytest.mark.parametrize("name", CASES)
def test_results_keep_every_bit_and_convolutions_run_less_often(name):
    model = build(name)
    images = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), torch.randn(2, 3, 48, 64)]
    alone, every = outputs(model, images, share=False)
    shared, fewer = outputs(model, images, share=True)
    for stitch, maps in alone.items():
        assert all(torch.equal(a, b) for a, b in zip(maps, shared[stitch], strict=True))
    assert fewer < every if name != "setr" else fewer == every
    values = [maps[0] for maps in alone.values()]
    assert not any(torch.equal(a, b) for a, b in pairwise(values))


def test_each_different_level_is_computed_once():
    """One convolution per level: as many runs as stitches differ in that level."""
    model = build("upernet without neck")
    trie = model.backbone.trie(model.backbone.space.ids)
    different = 0
    before = None
    for stitch in trie.order:  # the levels themselves tell
        with torch.no_grad(), model.backbone.use_stitch(stitch):
            torch.manual_seed(0)
            levels = model.backbone(torch.randn(1, 3, 64, 64))
        if before is not None:
            different += sum(not torch.equal(a, b) for a, b in zip(levels, before, strict=True))
        else:
            different += len(levels)
        before = levels
    stitches = len(trie.order)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    (_, every), (_, fewer) = (outputs(model, [image], share) for share in (False, True))
    assert every - fewer == 4 * stitches - different


class WritesIntoLevels(nn.Module):
    """A head as careless as a head may be: it writes into its inputs and into every result."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(24, 8, 1), nn.ReLU(inplace=True))
            for _ in range(4)
        )

    def forward(self, levels):
        out = 0
        for conv, level in zip(self.convs, levels, strict=True):
            level -= 0.1
            part = conv(level)
            part *= 3
            level.zero_()
            out = out + part.sum(dim=1)
        return out


def test_writing_in_place_spoils_no_other_stitch():
    model = build("setr")
    model.decode_head = WritesIntoLevels().eval()
    images = [torch.randn(1, 3, 64, 64)]
    assert len(level_modules(model, {0, 1, 2})) == 3
    alone, every = outputs(model, images, share=False)
    shared, fewer = outputs(model, images, share=True)
    assert fewer < every
    assert all(torch.equal(maps[0], shared[stitch][0]) for stitch, maps in alone.items())


class Counts(nn.Conv2d):
    """Has a state, as no module of torch has."""


def test_modules_that_others_wrote_replaced_or_watch_run_every_time():
    model = build("fpn")
    scales = model.decode_head.scale_heads
    known = level_modules(model, {0, 1, 2})
    own = copy.deepcopy(model)
    own.decode_head.scale_heads[1][0].conv = Counts(8, 8, 3, padding=1)
    assert own.decode_head.scale_heads[1] not in level_modules(own, {0, 1, 2})
    scales[0][0].register_forward_hook(lambda *_: None)
    scales[1].forward = scales[1].forward
    with LevelMemo(known).share():
        replaced = [m for m in known if getattr(vars(m).get("forward"), "func", None)]
    assert len(replaced) == len(known) - 2
    assert not any("forward" in vars(module) for module in known if module is not scales[1])


def test_training_and_gradients_pass_untouched():
    conv = nn.Conv2d(3, 2, 1)
    memo, image = LevelMemo([conv]), torch.randn(1, 3, 4, 4)
    with memo.share():
        assert conv(image).requires_grad
        conv.eval()
        assert conv(image).requires_grad
        assert not memo._kept
        with torch.no_grad():
            conv(image)
    assert not memo._kept


def test_a_part_that_draws_at_random_runs_every_time():
    """As for Monte Carlo dropout, where dropout alone is in training mode."""
    module = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Dropout(0.5)).eval()
    image = torch.randn(1, 3, 4, 4)
    memo = LevelMemo([module])
    with torch.no_grad(), memo.share():
        first = module(image)
        memo.begin()
        assert torch.equal(module(image), first)
        module[1].train()
        memo.begin()
        assert not torch.equal(module(image), first)
    assert not torch.equal(module(image), first)


def test_no_more_is_kept_than_the_limit():
    model = build("fpn")
    images = [torch.randn(1, 3, 64, 64)] * 3
    modules = level_modules(model, {0, 1, 2})
    every = outputs(model, images, share=False)
    some = outputs(model, images, share=True, memo=LevelMemo(modules, limit=100_000))
    many = outputs(model, images, share=True)
    none = outputs(model, images, share=True, memo=LevelMemo(modules, limit=0))
    assert many[1] < some[1] < every[1] == none[1]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(every[0].values(), some[0].values()))  # noqa: B905


def test_origins_follow_views_and_writes_in_place():
    a, b, c = (torch.randn(2, 3, device="meta") for _ in range(3))
    weight = torch.randn(3, 3, device="meta")
    with Origins([a, (b, c)]) as origins:
        product = a @ weight
        row = product[0]
        assert origins.of(row) == {0}
        assert origins.of(weight.t()) == set()
        row += c[0]
        assert origins.of(product) == {0, 1}
        assert origins.of([a + 1, {"x": b}]) == {0, 1}
    assert origins.macs[frozenset({0})] == 2 * 3 * 3
    assert sum(origins.macs.values()) == 18


def test_macs_by_level_are_those_of_the_head():
    model = build("upernet")
    heads = on_meta(NeckAndHeads(model))
    levels = [level.clone() for level in model.backbone.zero_levels((64, 64), "meta")]
    with torch.no_grad(), Origins(levels) as origins:
        heads(*levels_for(model.decode_head, levels))
    assert sum(origins.macs.values()) == head_macs(model, (64, 64))
    assert origins.macs[frozenset({3})] > 0
