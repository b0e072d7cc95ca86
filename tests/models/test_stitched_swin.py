"""The stitched backbone of Swins: what a stitch computes, counts and holds."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsn.engine import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import StitchedSwin, StitchedViT, activation_bytes
from mmsn.models.tracing import LiveBytes
from mmsn.stitching import LayerKey
from tests.tiny import TINY_SWINS, tiny_swin, tiny_swin_backbone, tiny_upernet

PUBLISHED = Path(__file__).parents[1] / "data" / "snnet_v1.json"
ENDS = ((1, 2, 4, 5), (1, 2, 6, 7), (1, 2, 6, 7))  # of stages, in blocks of each anchor
WIDTHS = (16, 32, 64, 128)  # of the last anchor


def build(**changes):
    """The tiny backbone; all weights are large enough for every stitch to differ."""
    options = tiny_swin_backbone() | changes
    options.pop("type")
    backbone = StitchedSwin(**options)
    for name, parameter in backbone.named_parameters():
        if not name.startswith("norms") and ".norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return backbone.eval()


def blocks_of(anchor):
    """The blocks of a Swin in a row, each with the merging before it."""
    for stage in anchor.vit.layers:
        for position, block in enumerate(stage.blocks):
            yield torch.nn.Sequential(stage.downsample, block) if position == 0 else block


def by_hand(backbone, image, stitch):
    """Every level of a stitch, with nothing but timm's modules and the names of layers."""
    levels, tokens, anchors = {}, None, list(backbone.anchors)
    joins = iter(backbone.space.joins(stitch))
    for anchor, start, stop in stitch.segments:
        if tokens is None:
            tokens = anchors[anchor].vit.patch_embed(image)
        else:
            key = next(joins)
            name = f"{key.source}_to_{key.target}_after_{key.unit}"
            tokens = backbone.stitching_layers[name](tokens)
        for index, block in enumerate(blocks_of(anchors[anchor])):
            if not start <= index < stop:
                continue
            tokens = block(tokens)
            if index in ENDS[anchor]:
                stage, level = ENDS[anchor].index(index), tokens
                for small in range(anchor, 2):  # units of a pair are the small anchor's blocks
                    name = f"{small}_to_{small + 1}_after_{ENDS[small][stage]}"
                    level = backbone.stitching_layers[name](level)
                norm = backbone.norms[str(stage)]
                level = F.layer_norm(level, level.shape[-1:], norm.weight, norm.bias)
                levels[stage] = level.permute(0, 3, 1, 2)
    return levels


@pytest.mark.parametrize("size", [(64, 64), (50, 90)], ids=str)
@torch.no_grad()
def test_every_stitch_gives_a_pyramid_at_any_size(size):
    backbone, image = build(), torch.randn(2, 3, *size)
    assert len(backbone.space) == 3 + 2 * 1 + 3 + 3  # stages 0 of both pairs, then stages 2
    seen = []
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            maps = backbone(image)
        for level, expected in by_hand(backbone, image, stitch).items():
            sides = tuple(-(-side // 4 // 2**level) for side in size)
            assert maps[level].shape == (2, WIDTHS[level], *sides)
            torch.testing.assert_close(maps[level], expected)
        assert all((maps[3] - other).abs().max() > 1e-3 for other in seen)
        seen.append(maps[3])


@pytest.mark.parametrize("size", [(64, 64), (50, 90)], ids=str)
@pytest.mark.parametrize("options", [{}, dict(rank=2, eval_levels=(1, 3))])
def test_closed_form_macs_equal_an_independent_count(size, options):
    backbone = build(**options)

    class Counted(torch.nn.Module):  # fvcore drops what no output needs
        def __init__(self):
            super().__init__()
            self.backbone = backbone

        def forward(self, image):
            return tuple(level for level in self.backbone(image) if level is not None)

    macs = backbone.stitch_macs(size)
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            counter = FlopCountAnalysis(Counted(), torch.randn(1, 3, *size))
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            assert macs[stitch.id] == counter.total()


@pytest.mark.parametrize("name", ["deit_ti_s_b", "swin_ti_s_b"])
def test_timms_own_models_cost_what_sn_net_published(name):
    """All multiply-accumulates at 224x224, without the classifier."""
    swin = name.startswith("swin")
    form = "swin_{}_patch4_window7_224" if swin else "deit_{}_patch16_224"
    anchors = [dict(model_name=form.format(size)) for size in ("tiny", "small", "base")]
    with torch.device("meta"):
        kind, levels = (StitchedSwin, (0, 1, 2, 3)) if swin else (StitchedViT, (2, 5, 8, 11))
        backbone = kind(anchors, 224, levels, space="one_way", rank=0)
    tokens = 49 if swin else 197
    for row in json.loads(PUBLISHED.read_text())[name]:
        stitch, dim = backbone.space[row["id"]], backbone.anchor(row["anchors"][-1]).dim
        # The published code runs DeiT's final norm for anchors only; see docs/snnet.md.
        norm = 5 * tokens * dim if swin or not row["joins"] else 0
        assert backbone.costs.chain_macs(stitch, (224, 224)) + norm + 1000 * dim == row["macs"]


def test_parameters_of_a_stitch_are_those_that_get_a_gradient():
    backbone = build().train()
    counted = backbone.stitch_params(range(4))
    for stitch in backbone.space:
        backbone.zero_grad(set_to_none=True)
        with backbone.use_stitch(stitch.id):
            sum(level.square().sum() for level in backbone(torch.randn(1, 3, 64, 64))).backward()
        used = sum(p.numel() for p in backbone.parameters() if p.grad is not None)
        assert counted[stitch.id] == used, stitch


def test_least_squares_fits_each_layer_to_its_joins_and_levels():
    backbone, images = build(), torch.randn(6, 3, 64, 64)
    solve_stitching_layers(backbone, images.split(4))

    @torch.no_grad()
    def after(anchor, block):
        tokens = backbone.anchors[anchor].vit.patch_embed(images)
        for one in list(blocks_of(backbone.anchors[anchor]))[: block + 1]:
            tokens = one(tokens)
        return tokens.flatten(0, 2).double()

    # (block of 0, block of 1) of each layer between the first two: stages 0, 1, 2, 2, 3.
    expected = {
        0: [(0, 0)],
        1: [(1, 1)],
        2: [(2, 2)],
        3: [(3, 3), (4, 4)],
        4: [(4, 5)],
        5: [(5, 7)],
    }
    assert {k.unit for k in backbone.layer_keys if k.source == 0} == set(expected)
    for unit, pairs in expected.items():
        solutions = []
        for small, large in pairs:
            x, y = after(0, small), after(1, large)
            design = torch.cat([x, torch.ones(len(x), 1)], dim=1)
            solutions.append(torch.linalg.pinv(design) @ y)
        solution = torch.stack(solutions).mean(0)
        layer = backbone.layer(LayerKey(0, 1, unit))
        torch.testing.assert_close(layer.weight.double(), solution[:-1].T, rtol=1e-3, atol=1e-4)
        assert layer.initialized
    assert not backbone.uninitialized


def segmentor(**changes):
    init_default_scope("mmseg")
    return MODELS.build(
        dict(
            type="EncoderDecoder",
            data_preprocessor=dict(type="SegDataPreProcessor", size=(64, 64)),
            backbone=tiny_swin_backbone(**changes),
            decode_head=tiny_upernet(5, WIDTHS),
            test_cfg=dict(mode="whole"),
        )
    )


@pytest.mark.parametrize("options", [{}, dict(with_cp=True), dict(freeze_anchors=True)])
def test_a_step_through_upernet_trains_what_ran(options):
    model = segmentor(**options).train()
    samples = []
    for _ in range(4):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, 64, 64)))
        samples.append(sample)
    images = torch.randn(4, 3, 64, 64)
    model.backbone.set_training_stitches([8])  # S to B in stage 2, after block 0 of it
    assert str(model.backbone.space[8]) == "1[0:4] > 2[4:8]"
    sum(v.sum() for k, v in model.loss(images, samples).items() if "loss" in k).backward()
    got = {name for name, p in model.backbone.named_parameters() if p.grad is not None}
    assert "stitching_layers.1_to_2_after_3.weight" in got
    assert {f"norms.{stage}.weight" for stage in range(4)} <= got
    blocks = {1: {None, 0, 1, 2, 3}, 2: {4, 5, 6, 7}}
    for index, anchor in enumerate(model.backbone.anchors):
        found = {anchor.block_of(n) for n, p in anchor.named_parameters() if p.grad is not None}
        assert found == ({} if "freeze_anchors" in options else blocks).get(index, set())


def test_recomputed_activations_change_no_gradient():
    plain, image = build().train(), torch.randn(2, 3, 64, 64)
    again = build(with_cp=True).train()
    again.load_state_dict(plain.state_dict())
    for backbone in (plain, again):
        with backbone.use_stitch(7):
            sum(level.square().mean() for level in backbone(image)).backward()
    for (name, p), q in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6), name


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (50, 90)], ids=str)
def test_activation_memory_is_what_a_pass_holds(size):
    model = segmentor().eval()
    expected = activation_bytes(model, size)
    for stitch in model.backbone.space:
        with model.backbone.use_stitch(stitch.id), LiveBytes() as memory:
            image = torch.zeros(1, 3, *size)
            memory.add(image)
            model(image, mode="tensor")
        # Attention as one operator, where timm's is taken apart on this device.
        assert expected[stitch.id] == pytest.approx(memory.peak, rel=0.05)


@pytest.mark.parametrize(
    ("anchors", "options", "message"),
    [
        (TINY_SWINS, dict(space="two_way"), "hierarchical anchors .* use 'one_way'"),
        (TINY_SWINS, dict(out_indices=(1, 4)), r"out_indices \(1, 4\) .* 0..3"),
        (TINY_SWINS, dict(depth=3), "StitchedSwin does not take depth"),
        (TINY_SWINS[::-1], {}, "list anchors from smallest to largest"),
        ([tiny_swin(8, (2, 1, 2)), TINY_SWINS[2]], {}, "3 stages.* and .*4 stages"),
        ([tiny_swin(8, (2, 1, 2, 1), patch_size=8), TINY_SWINS[2]], {}, "patch_size 8x8"),
        ([tiny_swin(8, (2, 1, 3, 1)), TINY_SWINS[2]], {}, "depths 3 and 4 cannot be stitched"),
        ([dict(depth=4)], {}, "give a dict with model_name"),
    ],
)
def test_bad_settings_are_refused_in_one_line(anchors, options, message):
    with torch.device("meta"), pytest.raises(UserError, match=message) as caught:
        StitchedSwin(list(anchors), **(dict(img_size=64, out_indices=(0, 1, 2, 3)) | options))
    assert "\n" not in str(caught.value)
