"""Shared beginnings change no bit, and run each block once."""

import pytest
import torch

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
    with backbone.share_prefixes(backbone.space.ids) as order:
        for stitch in order:
            with backbone.use_stitch(stitch):
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
    with backbone.share_prefixes(backbone.space.ids) as order:
        trie = backbone._shared.get().trie
        for stitch in order:
            with backbone.use_stitch(stitch):
                for crop in crops:
                    backbone(crop)
            most = max(most, sum(map(len, backbone._shared.get()._stacks)))
    assert len(calls) == 3 * sum(type(step).__name__ == "Run" for step in trie.executed())
    assert most == 3 * trie.kept()


@torch.no_grad()
def test_a_different_image_is_refused(build):
    backbone = build()
    with backbone.share_prefixes([0, 1]) as order:
        with backbone.use_stitch(order[0]):
            backbone(torch.randn(1, 3, 32, 32))
        with (
            backbone.use_stitch(order[1]),
            pytest.raises(RuntimeError, match="open share_prefixes for each batch"),
        ):
            backbone(torch.randn(1, 3, 32, 32))
    backbone(torch.randn(1, 3, 32, 32))  # afterwards all is as before


@torch.no_grad()
def test_a_stitch_inside_another_and_one_that_was_in_use_before(build):
    backbone, image = build(), torch.randn(1, 3, 32, 32)
    expected = {}
    for stitch in (0, 1, 2):
        with backbone.use_stitch(stitch):
            expected[stitch] = backbone(image)[-1]
    with backbone.use_stitch(1), backbone.share_prefixes([0, 1, 2]):
        assert torch.equal(backbone(image)[-1], expected[1])  # chosen before the sharing began
        with backbone.use_stitch(2):
            assert torch.equal(backbone(image)[-1], expected[2])
            with backbone.use_stitch(0):
                assert torch.equal(backbone(image)[-1], expected[0])
            assert backbone.stitch.id == 2


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
    with backbone.share_prefixes(backbone.space.ids) as order:
        for stitch in order:
            with backbone.use_stitch(stitch):
                levels = flat(backbone(pristine.clone()))
            assert all(torch.equal(a, b) for a, b in zip(levels, expected[stitch], strict=True))
            for level in levels:
                level.mul_(2)
    with backbone.share_prefixes([0, 1]) as order:
        with backbone.use_stitch(order[0]):
            backbone(image)
        image += 1
        with backbone.use_stitch(order[1]), pytest.raises(RuntimeError, match="the same images"):
            backbone(image)


@torch.no_grad()
def test_broken_pixels_are_the_same_as_themselves(build):
    backbone, image = build(), torch.randn(1, 3, 32, 32)
    image[0, 0, 0, 0] = float("nan")
    with backbone.share_prefixes([0, 1]) as order:
        for stitch in order:
            with backbone.use_stitch(stitch):
                backbone(image)


@torch.no_grad()
def test_a_stitch_that_was_not_named_is_refused(build):
    backbone = build()
    with (
        backbone.share_prefixes([0, 1]),
        backbone.use_stitch(2),
        pytest.raises(RuntimeError, match="stitch 2 is not among the 2"),
    ):
        backbone(torch.randn(1, 3, 32, 32))


def test_training_is_refused(build):
    with (
        pytest.raises(RuntimeError, match=r"call model\.eval"),
        build().train().share_prefixes([0]),
    ):
        pass
