"""One anchor and its beginnings: the elastic space as a backbone."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsn.models import StitchedViT
from tests.tiny import tiny_anchor, tiny_backbone, tiny_eva, tiny_head, tiny_segmentor

SIZE, DEPTH = 32, 6


@pytest.fixture(params=[tiny_anchor, tiny_eva])
def anchor(request):
    return request.param(24, DEPTH)


@pytest.fixture
def images():
    return torch.randn(2, 3, SIZE, SIZE)


def elastic(anchor, out_indices):
    torch.manual_seed(0)
    return StitchedViT([anchor], SIZE, out_indices, space="elastic").eval()


def test_all_blocks_are_the_plain_anchor_bit_for_bit(anchor, images):
    backbone = elastic(anchor, (2, 5))
    plain = StitchedViT([anchor], SIZE, (2, 5)).eval()
    plain.load_state_dict(backbone.state_dict())
    with torch.no_grad(), backbone.use_stitch(0):
        for level, expected in zip(backbone(images), plain(images), strict=True):
            assert torch.equal(level, expected)
    assert backbone.stitch_macs((SIZE, SIZE))[0] == plain.stitch_macs((SIZE, SIZE))[0]


def test_each_beginning_is_what_timm_gives_at_its_last_block(anchor, images):
    backbone = elastic(anchor, (DEPTH - 1,))
    assert [str(stitch) for stitch in backbone.space] == [f"0[0:{n}]" for n in range(6, 0, -1)]
    vit = backbone.anchor(0).vit
    for stitch in backbone.space:
        last = stitch.segments[0].stop - 1
        with torch.no_grad(), backbone.use_stitch(stitch.id):
            (level,) = backbone(images)
            (expected,) = vit.forward_intermediates(
                images, indices=[last], norm=False, intermediates_only=True
            )
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)


def test_a_level_is_as_far_into_what_is_left(anchor, images):
    backbone = elastic(anchor, (1, 3, 5))
    vit = backbone.anchor(0).vit
    with torch.no_grad(), backbone.use_stitch(3):  # blocks 0 to 2 stand in for 1, 3 and 5
        levels = backbone(images)
        expected = vit.forward_intermediates(
            images, indices=[0, 1, 2], norm=False, intermediates_only=True
        )
    for level, wanted in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-4, atol=1e-5)


def test_a_training_step_changes_the_blocks_that_ran_and_no_others(config_of_elastic):
    init_default_scope("mmseg")
    model = MODELS.build(config_of_elastic).train()
    wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    optimizer = build_optim_wrapper(model, wrapper)
    model.backbone.set_training_stitches([1, 3])  # 5 and 3 blocks
    before = {k: v.clone() for k, v in model.state_dict().items()}
    inputs = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(2)]
    losses = model.train_step(dict(inputs=inputs, data_samples=samples()), optimizer)
    assert torch.isfinite(losses["loss"])
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    ran = {int(k.split("blocks.")[1].split(".")[0]) for k in changed if "blocks." in k}
    assert ran == {0, 1, 2, 3, 4}
    assert "decode_head.conv_seg.weight" in changed
    assert "backbone.anchors.0.vit.patch_embed.proj.weight" in changed


@pytest.fixture
def config_of_elastic():
    anchors = [tiny_anchor(24, DEPTH)]
    backbone = tiny_backbone((2, 4), (DEPTH - 1,), SIZE, anchors=anchors, space="elastic")
    return tiny_segmentor(backbone, tiny_head(5, in_index=0), size=(SIZE, SIZE))


def samples():
    made = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, SIZE, SIZE)))
        made.append(sample)
    return made
