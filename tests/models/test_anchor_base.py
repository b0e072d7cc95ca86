"""What all kinds of anchors have in common."""

import pytest
import torch

from mmsn.errors import UserError
from mmsn.models import Anchor, SwinAnchor
from tests.tiny import tiny_anchor, tiny_swin

KINDS = pytest.mark.parametrize(
    ("kind", "spec"), [(Anchor, tiny_anchor(16, 3)), (SwinAnchor, tiny_swin(8, (1, 1, 2, 1)))]
)


@KINDS
def test_weights_have_one_source(kind, spec):
    with pytest.raises(UserError, match=r"both pretrained=True and checkpoint='x\.pth'"):
        kind(img_size=(64, 64), pretrained=True, checkpoint="x.pth", **spec)


@KINDS
@torch.no_grad()
def test_blocks_run_in_pieces_and_give_what_they_give_at_once(kind, spec):
    anchor, image = kind(img_size=(64, 64), **spec).eval(), torch.randn(1, 3, 64, 64)
    assert anchor.depth == sum(anchor.stages)
    tokens, grid = anchor.embed(image)
    expected = anchor.run(tokens, 0, anchor.depth, grid)
    for block in range(anchor.depth):
        assert tokens.shape == anchor.empty_tokens(image, block - 1).shape
        tokens = anchor.run(tokens, block, block + 1, grid)
    assert torch.equal(tokens, expected)


@KINDS
def test_every_parameter_belongs_to_a_block_or_the_embedding(kind, spec):
    anchor = kind(img_size=(64, 64), **spec)
    sizes = dict.fromkeys((None, *range(anchor.depth)), 0)
    for name, parameter in anchor.named_parameters():
        sizes[anchor.block_of(name)] += parameter.numel()
    cost = anchor.cost()
    assert sizes.pop(None) == cost.embed_params
    assert list(sizes.values()) == [cost.block_params(block) for block in range(anchor.depth)]
