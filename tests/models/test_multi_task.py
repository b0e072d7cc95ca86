"""Segmentation and depth together: each is what its head alone would give."""

import pytest
import torch
from mmengine.config import ConfigDict
from torch.nn.functional import cross_entropy, interpolate

from mmsn.models import (
    DepthTTAModel,
    SILogLoss,
    head_macs,
    segmentor_macs,
    segmentor_params,
)
from mmsn.models.depth_heads import levels_for
from tests.models.dense_models import (
    BACKBONE,
    DEPTH_MODEL,
    DPT,
    MULTI_TASK_MODEL,
    SEG,
    SIZE,
    build,
    sample,
)
from tests.tiny import tiny_eva


@pytest.fixture
def model():
    return build(MULTI_TASK_MODEL)


def by_hand(model, image):
    """Logits and meters of the two heads at the size of the image."""
    levels = model.backbone(image)
    outputs = model.decode_head(levels_for(model.decode_head, levels)), model.depth_head(levels)
    return [interpolate(out, image.shape[2:], mode="bilinear") for out in outputs]


def ground_truth(count=2):
    return [
        sample(labels=torch.randint(0, 5, (1, SIZE, SIZE)), depth=1 + 8 * torch.rand(1, SIZE, SIZE))
        for _ in range(count)
    ]


EVA = BACKBONE | dict(anchors=[tiny_eva(16, 4), tiny_eva(24, 4)])


@torch.no_grad()
@pytest.mark.parametrize(("flip", "backbone"), [(False, BACKBONE), (True, BACKBONE), (True, EVA)])
def test_one_pass_of_the_backbone_gives_both_predictions(flip, backbone):
    test_cfg = dict(mode="whole", flip=flip)
    model = build(MULTI_TASK_MODEL, backbone=backbone, test_cfg=test_cfg)
    image, passes = torch.randn(2, 3, SIZE, SIZE), []
    logits, depth = by_hand(model, image)
    if flip:
        mirrored = by_hand(model, image.flip(-1))
        logits = (logits + mirrored[0].flip(-1)) / 2
        depth = (depth + mirrored[1].flip(-1)) / 2
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    found = model.predict(image, ground_truth())
    assert len(passes) == 1 + flip
    for i, one in enumerate(found):
        assert torch.allclose(one.seg_logits.data, logits[i], atol=1e-6)
        assert torch.equal(one.pred_sem_seg.data, one.seg_logits.data.argmax(0, keepdim=True))
        assert torch.allclose(one.pred_depth_map.data, depth[i], atol=1e-6)


@torch.no_grad()
def test_sliding_windows_carry_both():
    slide = dict(mode="slide", crop_size=(SIZE, SIZE), stride=(16, 16))
    model, image = build(MULTI_TASK_MODEL, test_cfg=slide), torch.randn(1, 3, SIZE, 48)
    (found,) = model.predict(image, [sample((SIZE, 48), ori_shape=(SIZE, 48))])
    totals = [torch.zeros(1, n, SIZE, 48) for n in (5, 1)]
    for x in (0, 16):
        for total, part in zip(totals, by_hand(model, image[..., x : x + 32]), strict=True):
            total[..., x : x + 32] += part
    for total in totals:
        total[..., 16:32] /= 2
    assert torch.allclose(found.seg_logits.data, totals[0][0], atol=1e-6)
    assert torch.allclose(found.pred_depth_map.data, totals[1][0], atol=1e-6)


@torch.no_grad()
def test_predictions_without_data_samples_have_the_size_of_the_input(model):
    image = torch.randn(2, 3, SIZE, SIZE)
    logits, depth = by_hand(model, image)
    for i, one in enumerate(model(image, mode="predict")):
        assert torch.allclose(one.seg_logits.data, logits[i], atol=1e-6)
        assert torch.allclose(one.pred_depth_map.data, depth[i], atol=1e-6)


def test_the_losses_are_those_of_both_heads_and_train_everything():
    weighted = DPT | dict(loss_decode=dict(type="mmsn.SILogLoss", loss_weight=0.5))
    model = build(MULTI_TASK_MODEL, depth_head=weighted).train()
    model.decode_head.dropout = None
    image, samples = torch.randn(2, 3, SIZE, SIZE), ground_truth()
    model.backbone.set_stitch(model.backbone.space.ids[-1])
    losses = model.loss(image, samples)
    logits, depth = by_hand(model, image)
    labels = torch.stack([s.gt_sem_seg.data for s in samples]).squeeze(1)
    meters = torch.stack([s.gt_depth_map.data for s in samples])
    expected = cross_entropy(logits, labels)
    assert losses["decode.loss_ce"].item() == pytest.approx(expected.item(), rel=1e-5)
    expected = 0.5 * SILogLoss()(depth, meters)
    assert losses["depth.loss_silog"].item() == pytest.approx(expected.item(), rel=1e-5)
    total, log = model.parse_losses(losses)
    both = losses["decode.loss_ce"] + losses["depth.loss_silog"]
    assert total.item() == pytest.approx(both.item())
    assert set(log) == {"loss", "decode.loss_ce", "decode.acc_seg", "depth.loss_silog"}
    total.backward()
    for part in (model.decode_head, model.depth_head):
        assert all(p.grad is not None for p in part.parameters())


def test_auxiliary_heads_segment_the_maps():
    model = build(MULTI_TASK_MODEL, auxiliary_head=SEG | dict(in_index=1)).train()
    losses = model.loss(torch.randn(2, 3, SIZE, SIZE), ground_truth())
    assert "aux.loss_ce" in losses


def test_both_heads_are_counted(model):
    depth = build(DEPTH_MODEL)
    seg = build(
        dict(
            type="EncoderDecoder",
            backbone=BACKBONE | dict(output_cls_token=False),
            decode_head=SEG,
            test_cfg=dict(mode="whole"),
        )
    )
    size = (SIZE, SIZE)
    heads = head_macs(seg, size) + head_macs(depth, size)
    assert head_macs(model, size) == heads
    assert segmentor_macs(model, size) == {
        i: m + heads for i, m in model.backbone.stitch_macs(size).items()
    }
    own = sum(p.numel() for part in (seg, depth) for p in part.decode_head.parameters())
    assert segmentor_params(model) == {
        i: p + own for i, p in model.backbone.stitch_params().items()
    }
    logits, meters = model(torch.randn(1, 3, *size), mode="tensor")  # as latency runs it
    assert (logits.shape[1], meters.shape[1]) == (5, 1)


@torch.no_grad()
def test_augmentation_merges_both(model):
    tta = DepthTTAModel(module=ConfigDict(MULTI_TASK_MODEL))
    tta.module = model
    image = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    views = dict(
        inputs=[[image], [image.flip(-1)]],
        data_samples=[
            [sample(flip=flip, flip_direction="horizontal", img_path="a.png")]
            for flip in (False, True)
        ],
    )
    (merged,) = tta.test_step(views)
    pixels = model.data_preprocessor(dict(inputs=[image]), False)["inputs"]
    logits, depth = by_hand(model, pixels)
    mirrored = [out.flip(-1) for out in by_hand(model, pixels.flip(-1))]
    probabilities = logits.softmax(1) + mirrored[0].softmax(1)
    assert torch.equal(merged.pred_sem_seg.data.squeeze(), probabilities.argmax(1).squeeze())
    assert torch.allclose(merged.pred_depth_map.data, ((depth + mirrored[1]) / 2)[0], atol=1e-6)
