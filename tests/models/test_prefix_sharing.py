"""Shared beginnings change no bit, and run each block once."""

import pytest
import torch

from mmsn.errors import UserError
from tests.stitching.expected import executed
from tests.tiny import tiny_anchor, tiny_eva

CHAIN = [tiny_anchor(16, 2), tiny_anchor(24, 4), tiny_anchor(32, 4)]


@pytest.mark.parametrize(
    ("anchors", "options"),
    [
        (None, {}),
        (None, dict(eval_levels=(3,))),
        ([tiny_anchor(16, 4), tiny_anchor(24, 4)], dict(out_indices=(0, 1, 2, 3))),
        (CHAIN, dict(out_indices=(0, 1, 2, 3))),
        (None, dict(space="one_way", rank=0)),
        ([tiny_eva(16, 4), tiny_eva(24, 4)], dict(out_indices=(0, 1, 2, 3))),
    ],
)
@torch.no_grad()
def test_outputs_are_bit_for_bit_those_of_each_stitch_alone(build, anchors, options):
    backbone = build(anchors, **options)
    crops = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), torch.randn(2, 3, 48, 64)]
    expected = {}
    for stitch in backbone.space.ids:
        with backbone.use_stitch(stitch):
            expected[stitch] = [backbone(crop) for crop in crops]
    seen = []
    passes = backbone.share_prefixes(backbone.space.ids)
    for stitch in passes.trie.order:
        with backbone.use_stitch(stitch, passes):
            for crop, maps in zip(crops, expected[stitch], strict=True):
                for ours, alone in zip(backbone(crop), maps, strict=True):
                    assert alone is ours is None or torch.equal(ours, alone)
        seen.append(stitch)
    assert sorted(seen) == list(backbone.space.ids)


@torch.no_grad()
def test_each_shared_block_runs_once_and_few_states_are_kept(build):
    backbone, crops = build(), torch.randn(3, 1, 3, 32, 32)
    calls = []
    for anchor in backbone.anchors:
        for block in anchor.vit.blocks:
            block.register_forward_hook(lambda *_: calls.append(1))
    most = 0
    trie = backbone.trie(backbone.space.ids)
    passes = backbone.share_prefixes(trie)
    for stitch in trie.order:
        with backbone.use_stitch(stitch, passes):
            for crop in crops:
                backbone(crop)
        most = max(most, sum(len(one.stack) for one in passes._inputs))
    assert len(calls) == 3 * sum(type(step).__name__ == "Run" for step in executed(trie))
    assert most == 3 * trie.kept()


@torch.no_grad()
def test_a_different_image_is_refused(build):
    backbone = build()
    passes = backbone.share_prefixes([0, 1])
    with backbone.use_stitch(0, passes):
        backbone(torch.randn(1, 3, 32, 32))
    with (
        backbone.use_stitch(1, passes),
        pytest.raises(RuntimeError, match="call share_prefixes for each batch"),
    ):
        backbone(torch.randn(1, 3, 32, 32))
    backbone(torch.randn(1, 3, 32, 32))  # afterward all is as before


@torch.no_grad()
def test_a_stitch_inside_another_runs_alone_and_the_outer_one_goes_on_sharing(build):
    backbone, image = build(), torch.randn(1, 3, 32, 32)
    expected = {}
    for stitch in (0, 1, 2):
        with backbone.use_stitch(stitch):
            expected[stitch] = backbone(image)[-1]
    passes, crops = backbone.share_prefixes([0, 1, 2]), torch.randn(2, 1, 3, 32, 32)
    with backbone.use_stitch(1):
        crop = backbone(crops[1])[-1]
    for _ in range(2):  # the same stitch again begins with the first input
        with backbone.use_stitch(1, passes):
            assert torch.equal(backbone(image)[-1], expected[1])
            with backbone.use_stitch(2):
                assert torch.equal(backbone(image)[-1], expected[2])
                assert backbone.stitch.id == 2
            backbone.set_stitch(0)
            assert backbone.stitch.id == 1
            assert torch.equal(backbone(crops[1])[-1], crop)  # the second input of this pass
    assert torch.equal(backbone(image)[-1], expected[0])


@torch.no_grad()
@pytest.mark.parametrize("tokens", [False, True])
def test_what_a_head_does_to_a_level_or_an_image_spoils_no_other_stitch(build, tokens):
    backbone, image = build(output_cls_token=tokens), torch.randn(1, 3, 32, 32)
    pristine = image.clone()

    def flat(levels):
        return [t for level in levels for t in (level if isinstance(level, tuple) else (level,))]

    expected = {}
    for stitch in backbone.space.ids:
        with backbone.use_stitch(stitch):
            expected[stitch] = flat(backbone(image))
    passes = backbone.share_prefixes(backbone.space.ids)
    for stitch in passes.trie.order:
        with backbone.use_stitch(stitch, passes):
            levels = flat(backbone(pristine.clone()))
        assert all(torch.equal(a, b) for a, b in zip(levels, expected[stitch], strict=True))
        for level in levels:
            level.mul_(2)
    passes = backbone.share_prefixes([0, 1])
    with backbone.use_stitch(0, passes):
        backbone(image)
    image += 1
    with backbone.use_stitch(1, passes), pytest.raises(RuntimeError, match="the same images"):
        backbone(image)
    image -= 1  # written to, but as it was
    image.copy_(pristine)
    with backbone.use_stitch(1, passes):
        assert all(
            torch.equal(a, b) for a, b in zip(flat(backbone(image)), expected[1], strict=True)
        )


@torch.no_grad()
def test_broken_pixels_are_the_same_as_themselves(build):
    backbone, image = build(), torch.randn(1, 3, 32, 32)
    image[0, 0, 0, 0] = float("nan")
    passes = backbone.share_prefixes([0, 1])
    for stitch in passes.trie.order:
        for again in (image, image.clone()):
            with backbone.use_stitch(stitch, passes):
                backbone(again)


@torch.no_grad()
def test_a_stitch_that_was_not_named_is_refused(build):
    backbone = build()
    with (
        pytest.raises(RuntimeError, match="stitch 2 is not among the 2"),
        backbone.use_stitch(2, backbone.share_prefixes([0, 1])),
    ):
        pass
    with pytest.raises(UserError, match="stitch 5 is unknown"):
        backbone.share_prefixes([0, 5])


def test_training_is_refused(build):
    with pytest.raises(RuntimeError, match=r"call model\.eval"):
        build().train().share_prefixes([0])
