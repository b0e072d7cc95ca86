"""Heads that regress depth: their range, their loss, and that mmseg's decoders are left as is."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.decode_heads import DPTHead, FPNHead, UPerHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmsn.errors import UserError
from mmsn.models import SILogLoss
from mmsn.models.depth_heads import levels_for

MAPS = dict(in_channels=[8] * 4, in_index=[0, 1, 2, 3], channels=8)
NORM = dict(type="BN")
HEADS = {
    "dpt": dict(
        type="mmsn.DPTDepthHead",
        post_process_channels=[2, 4, 8, 16],
        readout_type="project",
        **MAPS,
    ),
    "upernet": dict(type="mmsn.UPerDepthHead", pool_scales=(1, 2), norm_cfg=NORM, **MAPS),
    "fpn": dict(type="mmsn.FPNDepthHead", feature_strides=[4, 8, 16, 32], norm_cfg=NORM, **MAPS),
}


def make(name, **options):
    init_default_scope("mmseg")
    return MODELS.build(HEADS[name] | options)


def levels(name, batch=2, rows=4, columns=6):
    """What the backbone, or for pyramids the neck, gives."""
    if name == "dpt":
        return tuple((torch.randn(batch, 8, rows, columns), torch.randn(batch, 8)) for _ in "1234")
    sides = ((4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), (2, 3))
    return tuple(torch.randn(batch, 8, *side) for side in sides)


def samples(target):
    return [SegDataSample(gt_depth_map=PixelData(data=depth)) for depth in target]


@pytest.mark.parametrize("name", HEADS)
def test_every_head_stays_in_its_range_and_trains(name):
    head, inputs = make(name), levels(name)
    target = 1 + 8 * torch.rand(2, 1, 64, 96)
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    history = []
    for _ in range(12):
        losses = head.loss(inputs, samples(target), None)
        assert set(losses) == {"loss_silog"}
        optimizer.zero_grad()
        losses["loss_silog"].backward()
        assert all(p.grad is not None for p in head.parameters())
        optimizer.step()
        history.append(losses["loss_silog"].item())
    assert history[-1] < history[0]
    for scale in (1e4, -1e4):  # whatever comes out of the last layer
        last = [m for m in head.conv_seg.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        torch.nn.init.constant_(last.bias, scale)
        depth = head(inputs)
        assert depth.min() >= 1e-3
        assert depth.max() <= 10
    depth = make(name, min_depth=1.0, max_depth=2.0)(inputs)
    assert 1 <= depth.min() < depth.max() <= 2


@pytest.mark.parametrize(
    ("name", "base"), [("dpt", DPTHead), ("upernet", UPerHead), ("fpn", FPNHead)]
)
def test_the_decoder_is_mmsegs_and_the_output_its_squashed_features(name, base):
    head, inputs = make(name).eval(), levels(name)
    raw = {}
    head.conv_seg.register_forward_hook(lambda _, args, out: raw.update(features=args[0], out=out))
    depth = head(inputs)
    expected = 1e-3 + (10 - 1e-3) / (1 + torch.exp(-raw["out"]))
    assert torch.allclose(depth, expected, atol=1e-5)
    plain = {k: v for k, v in HEADS[name].items() if k != "type"}
    if name == "dpt":
        plain |= dict(norm_cfg=None, input_transform="multiple_select", embed_dims=8)
    twin = base(num_classes=3, dropout_ratio=0.0, **plain).eval()
    shared = {k: v for k, v in head.state_dict().items() if not k.startswith("conv_seg")}
    twin.load_state_dict(twin.state_dict() | shared)
    twin.conv_seg = torch.nn.Identity()
    assert torch.equal(twin(inputs), raw["features"])


def test_the_loss_is_that_of_the_resized_prediction_over_the_heads_range():
    head, inputs = make("dpt", max_depth=5.0).eval(), levels("dpt")
    target = 8 * torch.rand(2, 1, 30, 50)
    loss = head.loss(inputs, samples(target), None)["loss_silog"]
    resized = torch.nn.functional.interpolate(head(inputs), (30, 50), mode="bilinear")
    assert loss.item() == pytest.approx(SILogLoss(max_depth=5.0)(resized, target).item(), rel=1e-6)
    assert abs(loss - SILogLoss()(resized, target)) > 1e-3


def test_a_silog_loss_follows_the_heads_range_unless_it_names_its_own():
    weighted = dict(type="mmsn.SILogLoss", loss_weight=0.5)
    for given in (weighted, [weighted]):
        (loss,) = make("dpt", max_depth=80.0, loss_decode=given).loss_decode
        assert (loss.min_depth, loss.max_depth, loss.loss_weight) == (1e-3, 80.0, 0.5)
    assert weighted == dict(type="mmsn.SILogLoss", loss_weight=0.5)
    (own,) = make("dpt", max_depth=80.0, loss_decode=weighted | dict(max_depth=20.0)).loss_decode
    assert own.max_depth == 20


def test_losses_of_one_name_are_summed_as_mmseg_does():
    silog = dict(type="mmsn.SILogLoss")
    head = make("fpn", loss_decode=[silog, silog | dict(loss_weight=2.0)]).eval()
    inputs, target = levels("fpn"), samples(torch.full((2, 1, 8, 8), 2.0))
    total = head.loss(inputs, target, None)["loss_silog"]
    del head.loss_decode[1]
    assert total.item() == pytest.approx(3 * head.loss(inputs, target, None)["loss_silog"].item())


def test_the_dpt_head_reads_the_class_token_and_ends_at_twice_the_finest_level():
    head, inputs = make("dpt").eval(), levels("dpt", rows=4, columns=6)
    depth = head(inputs)
    assert depth.shape == (2, 1, 64, 96)  # patch 16: that of the image
    others = tuple((m, torch.randn_like(t)) for m, t in inputs)
    assert not torch.allclose(head(others), depth)


def test_maps_without_class_tokens_are_refused_by_dpt_in_one_line():
    with pytest.raises(UserError, match=r"set backbone\.output_cls_token=True"):
        make("dpt")(tuple(m for m, _ in levels("dpt")))


def test_only_dpt_is_given_class_tokens():
    pairs = levels("dpt")
    assert levels_for(make("dpt"), pairs) is pairs
    found = levels_for(make("fpn"), (pairs[0], None, pairs[2][0]))
    assert found[0] is pairs[0][0]
    assert found[1] is None
    assert found[2] is pairs[2][0]


def test_a_mixed_precision_prediction_is_float32():
    with torch.autocast("cpu", torch.bfloat16):
        assert make("dpt")(levels("dpt")).dtype == torch.float32
