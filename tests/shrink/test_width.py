"""Weights of a narrower ViT out of those of a wide one."""

import pytest
import torch

from mmsn import shrink
from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.shrink.child import unit_outputs
from mmsn.shrink.width import narrow_state, principal_basis
from tests.shrink.tiny import NAME, PARENT, SIZE, make_parent


def test_narrowing_is_exact_where_the_parent_uses_no_more(parent):
    """A parent of width 24 that lives in 15 directions, 2 heads and 64 hidden units."""
    vit = parent.vit
    directions = torch.linalg.qr(torch.cat([torch.ones(24, 1), torch.randn(24, 15)], 1)).Q[:, 1:]
    inside = directions @ directions.T  # a projector; what it leaves sums to zero over channels
    for value in (vit.cls_token, vit.pos_embed):
        value.data = value @ inside
    vit.patch_embed.proj.weight.data = torch.einsum(
        "ij,jchw->ichw", inside, vit.patch_embed.proj.weight
    )
    vit.patch_embed.proj.bias.data = inside @ vit.patch_embed.proj.bias
    for block in vit.blocks:
        for layer, scale in ((block.attn.proj, block.ls1), (block.mlp.fc2, block.ls2)):
            undo = 1 / scale.gamma  # what is added to the tokens must lie inside, after the scale
            layer.weight.data = undo[:, None] * (inside @ (scale.gamma[:, None] * layer.weight))
            layer.bias.data = undo * (inside @ (scale.gamma * layer.bias))
        block.attn.proj.weight.data[:, 8:16] = 0  # the second head is silent
        block.mlp.fc2.weight.data[:, 10:42] = 0  # as are 32 of the 96 hidden units
    image = torch.randn(2, 3, *SIZE)
    wide = unit_outputs(parent, image, 1)
    basis = principal_basis(wide, 16)
    child = Anchor(NAME, (64, 64), **(PARENT | dict(embed_dim=16, num_heads=2))).eval()
    child.vit.load_state_dict(narrow_state(vit, basis, 2, child.vit))
    for narrow, tokens in zip(unit_outputs(child, image, 1), wide, strict=True):
        torch.testing.assert_close(narrow, tokens @ basis.T, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(narrow @ basis, tokens, rtol=1e-3, atol=1e-4)


def test_narrowing_refuses_parts_that_it_cannot_project(folder):
    parent = make_parent(qk_norm=True)
    plan = shrink.plan_child(parent, width=16)
    options = shrink.child_options(plan, PARENT | dict(qk_norm=True))
    images = torch.randn(1, 3, *SIZE)
    with pytest.raises(UserError, match="norms in the attention cannot be narrowed: start from"):
        shrink.start_child(parent, plan, (64, 64), options, images=images)
    child, basis = shrink.start_child(parent, plan, (64, 64), options, "random", images)
    assert (child.dim, basis) == (16, None)
