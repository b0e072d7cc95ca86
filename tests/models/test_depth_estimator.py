"""Inference of depth: whole, sliding, flipped, padded, batched and augmented, against a loop."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import DepthEstimator as MmsegDepthEstimator
from torch.nn.functional import interpolate

from mmsn.errors import UserError
from mmsn.evaluation.latency import measure_latency
from mmsn.models import DepthTTAModel, stitched_backbone
from tests.models.dense_models import DEPTH_MODEL, DPT, SIZE, build, sample

SLIDE = dict(mode="slide", crop_size=(32, 32), stride=(16, 24))


@pytest.fixture
def model():
    return build(DEPTH_MODEL)


def depth_of(model, image):
    """(B, 1, H, W) meters at the size of the image, by hand."""
    depth = model.decode_head(model.backbone(image))
    return interpolate(depth, image.shape[2:], mode="bilinear", align_corners=False)


def by_windows(model, image):
    """SLIDE, written out for a 48x56 image."""
    total, count = torch.zeros(len(image), 1, 48, 56), torch.zeros(48, 56)
    for y in (0, 16):
        for x in (0, 24):
            total[..., y : y + 32, x : x + 32] += depth_of(
                model, image[..., y : y + 32, x : x + 32]
            )
            count[y : y + 32, x : x + 32] += 1
    return total / count


@torch.no_grad()
def predict(model, image, **metainfo):
    samples = [sample(tuple(image.shape[2:]), **metainfo) for _ in image]
    found = model.predict(image, samples)
    return torch.stack([s.pred_depth_map.data for s in found])


@torch.no_grad()
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("test_cfg", "by_hand"), [(dict(mode="whole"), depth_of), (SLIDE, by_windows)]
)
def test_predictions_are_those_of_a_loop(test_cfg, by_hand, flip):
    model = build(DEPTH_MODEL, test_cfg=test_cfg | dict(flip=flip))
    image = torch.randn(2, 3, 48, 56)
    expected = by_hand(model, image)
    if flip:
        expected = (expected + by_hand(model, image.flip(-1)).flip(-1)) / 2
    assert torch.allclose(predict(model, image), expected, atol=1e-6)


@torch.no_grad()
def test_mmsegs_estimator_does_not_slide():
    """Why this package has its own; where this fails, mmseg has been fixed."""
    image = torch.randn(1, 3, 48, 56)
    model = build(DEPTH_MODEL, test_cfg=SLIDE)
    samples = [sample((48, 56))]
    theirs = MmsegDepthEstimator.inference(model, image, [s.metainfo for s in samples])
    assert theirs.shape == (1, 1, 32, 32)  # the whole image, at the size of a window
    assert predict(model, image).shape == (1, 1, 48, 56)


@torch.no_grad()
def test_padding_is_cut_and_each_prediction_has_its_original_size(model):
    image = torch.randn(2, 3, 32, 48)
    padded = dict(img_padding_size=(0, 8, 0, 4), pad_shape=(32, 48))
    samples = [sample((28, 40), ori_shape=size, **padded) for size in ((56, 80), (28, 40))]
    found = model.predict(image, samples)
    whole = depth_of(model, image)[..., :28, :40]
    first = interpolate(whole[:1], (56, 80), mode="bilinear")[0]
    assert torch.allclose(found[0].pred_depth_map.data, first, atol=1e-6)
    assert torch.allclose(found[1].pred_depth_map.data, whole[1], atol=1e-6)


@torch.no_grad()
def test_without_data_samples_the_size_is_the_inputs(model):
    image = torch.randn(2, 3, 32, 48)
    found = model(image, mode="predict")
    for i, one in enumerate(found):
        assert torch.allclose(one.pred_depth_map.data, depth_of(model, image)[i], atol=1e-6)


def test_auxiliary_heads_train_and_take_no_part_in_prediction():
    aux = DPT | dict(loss_decode=dict(type="mmsn.SILogLoss", loss_weight=0.4))
    model = build(DEPTH_MODEL, auxiliary_head=[aux, aux]).train()
    depth = 1 + 8 * torch.rand(1, SIZE, SIZE)
    losses = model.loss(torch.randn(2, 3, SIZE, SIZE), [sample(depth=depth) for _ in range(2)])
    assert set(losses) == {"decode.loss_silog", "aux_0.loss_silog", "aux_1.loss_silog"}
    assert losses["aux_0.loss_silog"] < losses["decode.loss_silog"]  # weight 0.4
    model.eval()
    image = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.allclose(predict(model, image), depth_of(model, image), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("test_cfg", [dict(mode="whole", flip=True), SLIDE | dict(flip=True)])
def test_stitches_share_their_beginnings_when_images_are_flipped(test_cfg):
    model = build(DEPTH_MODEL, test_cfg=test_cfg)
    backbone, image = model.backbone, torch.randn(1, 3, 48, 56)
    ids, alone, calls = list(backbone.space.ids), {}, []
    for anchor in backbone.anchors:
        for block in anchor.vit.blocks:
            block.register_forward_hook(lambda *_: calls.append(1))
    for stitch in ids:
        with backbone.use_stitch(stitch):
            alone[stitch] = predict(model, image)
    apart = len(calls)
    calls.clear()
    passes = backbone.share_prefixes(ids)
    for stitch in passes.trie.order:
        with backbone.use_stitch(stitch, passes):
            assert torch.equal(predict(model, image), alone[stitch]), stitch
    assert len(calls) < apart


def test_latency_is_that_of_one_pass():
    model = build(DEPTH_MODEL, test_cfg=dict(mode="whole", flip=True))
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    times, _ = measure_latency(model, [0, 1], (32, 48), repeats=2, warm_up=1)
    assert len(passes) == 2 * 3
    assert all(t.p50_ms > 0 for t in times.values())


@torch.no_grad()
def test_augmented_predictions_are_averaged(model):
    tta = DepthTTAModel(module=ConfigDict(DEPTH_MODEL))
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
    plain, mirrored = depth_of(model, pixels), depth_of(model, pixels.flip(-1)).flip(-1)
    expected = ((plain + mirrored) / 2)[0]
    assert torch.allclose(merged.pred_depth_map.data, expected, atol=1e-6)
    assert merged.img_path == "a.png"
    assert stitched_backbone(tta) is model.backbone


def test_a_prediction_is_pixel_data_of_one_channel(model):
    with torch.no_grad():
        (found,) = model.predict(torch.randn(1, 3, 32, 32), [sample()])
    assert isinstance(found.pred_depth_map, PixelData)
    assert found.pred_depth_map.data.shape == (1, 32, 32)


def test_unread_class_tokens_are_refused():
    maps_only = copy.deepcopy(DEPTH_MODEL)
    maps_only["backbone"]["output_cls_token"] = True
    maps_only["decode_head"] = dict(
        type="mmsn.FPNDepthHead",
        in_channels=[24] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=8,
    )
    with pytest.raises(UserError, match="but the FPNDepthHead reads only maps"):
        build(maps_only)
    maps_only["neck"] = dict(type="MultiLevelNeck", in_channels=[24] * 4, out_channels=24)
    with pytest.raises(UserError, match="but the neck reads only maps"):
        build(maps_only)
