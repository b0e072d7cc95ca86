"""A backbone of a few stitches: the same outputs, and nothing that no stitch runs."""

import copy

import pytest
import torch

from mmsn.engine import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import StitchedViT, activation_bytes, opening
from mmsn.stitching import resolve
from tests.deploy.conftest import small_config
from tests.tiny import tiny_anchor

REL_POS = [tiny_anchor(16, 4, rel_pos_bias=True), tiny_anchor(24, 8, rel_pos_bias=True)]

SOME_OF_EACH_KIND = (0, 1, 3, 7, 10, 13)


def taken_from(whole, build, ids, **options):
    """A backbone of these stitches with the weights of the whole one."""
    small = build(stitches=ids, **options)
    state = whole.state_dict()
    missing, unexpected = small.load_state_dict(
        {k: state[k] for k in small.state_dict()}, strict=True
    )
    assert not missing
    assert not unexpected
    return small


@pytest.mark.parametrize("options", [{}, dict(anchors=REL_POS, eval_levels=(3,)), dict(rank=0)])
@torch.no_grad()
def test_each_stitch_alone_gives_the_same_and_holds_what_is_counted(build, options):
    whole, image = build(**options), torch.randn(1, 3, 64, 48)
    for anchor in whole.anchors:
        for table in anchor.rel_pos.tables.values() if anchor.rel_pos else ():
            table.normal_()
    levels = range(4)  # what training reads is built, too
    counted = whole.stitch_params(levels)
    for stitch in (whole.space[i] for i in SOME_OF_EACH_KIND):
        small = taken_from(whole, build, [stitch.id], **options)
        assert small.stitch == stitch
        assert sum(p.numel() for p in small.parameters()) == counted[stitch.id]
        assert small.stitch_params(levels) == {stitch.id: counted[stitch.id]}
        assert small.stitch_macs((64, 48)) == {stitch.id: whole.stitch_macs((64, 48))[stitch.id]}
        with whole.use_stitch(stitch.id):
            for ours, theirs in zip(small(image), whole(image), strict=True):
                assert (ours is theirs is None) or torch.equal(ours, theirs)


@torch.no_grad()
def test_several_stitches_share_what_they_have_in_common(build):
    whole, image = build(), torch.randn(1, 3, 64, 64)
    ids = (3, 0, 7)
    small = taken_from(whole, build, ids)
    assert small.space.ids == (0, 3, 7)
    macs = small.stitch_macs((64, 64))
    assert small.stitch.id == max(macs, key=lambda i: macs[i])
    names = [
        {k for k, p in taken_from(whole, build, [i]).named_parameters()} for i in small.space.ids
    ]
    assert {k for k, p in small.named_parameters()} == set.union(*names)
    passes = small.share_prefixes(small.space.ids)
    for stitch in passes.trie.order:
        with small.use_stitch(stitch, passes):
            shared = small(image)
        with whole.use_stitch(stitch):
            alone = whole(image)
        assert all(torch.equal(a, b) for a, b in zip(shared, alone, strict=True))
    assert copy.deepcopy(small).stitch == small.stitch


def test_words_name_what_is_there(build):
    small = build(stitches=(0, 3, 7))
    macs = small.stitch_macs((64, 64))
    assert resolve(small.space, macs, "anchors") == (0,)
    assert resolve(small.space, macs, "middle")[0] in (3, 7)
    assert resolve(small.space, macs, ["all"]) == (0, 3, 7)
    with pytest.raises(UserError, match=r"stitch 1 is not in this subset: it holds 0, 3, 7"):
        small.set_stitch(1)


def test_bad_subsets_are_refused(build):
    with pytest.raises(UserError, match="stitch 99 is unknown: ids are 0 to"):
        build(stitches=[99])
    with pytest.raises(UserError, match="give at least one id"):
        build(stitches=[])
    with pytest.raises(UserError, match="lacks blocks that least squares needs"):
        solve_stitching_layers(build(stitches=[2]), [torch.randn(1, 3, 64, 64)])


def test_anchors_load_their_files_into_what_is_left(build, tmp_path):
    whole = build()
    path = tmp_path / "whole.pth"
    torch.save(whole.state_dict(), path)
    anchors = [
        dict(anchor, checkpoint=str(path), prefix=f"anchors.{index}.")
        for index, anchor in enumerate((tiny_anchor(16, 4), tiny_anchor(24, 8)))
    ]
    small = StitchedViT(anchors, 64, (1, 3, 5, 7), rank=2, stitches=[3])
    small.init_weights()
    own, theirs = small.anchors.state_dict(), whole.anchors.state_dict()
    assert 0 < len(own) < len(theirs)
    assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_nothing_of_an_unused_anchor_takes_memory(build):
    small = build(stitches=[0])
    assert not list(small.anchor(1).parameters())
    assert {p.device.type for p in small.parameters()} == {"cpu"}


def test_activations_are_counted_without_the_first_blocks():
    config = small_config("setr-naive", (4, 4))
    whole = activation_bytes(opening.build(config, "meta"), (64, 64))
    config.model.backbone.stitches = [2, 6]  # two anchors, each begun and each joined midway
    assert activation_bytes(opening.build(config, "meta"), (64, 64)) == {
        i: whole[i] for i in (2, 6)
    }
