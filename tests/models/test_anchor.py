"""Running an anchor in parts."""

import pytest
import torch

from mmsn.errors import UserError
from mmsn.models import Anchor


def test_gradient_checkpointing_recomputes_and_changes_no_gradient():
    image, grads, runs = torch.randn(1, 3, 32, 32), [], []
    for with_cp in (False, True):
        calls = []
        torch.manual_seed(0)
        anchor = Anchor("vit_tiny_patch16_224", (32, 32), with_cp=with_cp, depth=2).train()
        anchor.vit.blocks[1].attn.register_forward_hook(lambda *_, c=calls: c.append(1))
        tokens, grid = anchor.embed(image)
        anchor.run(tokens, 0, 2, grid).square().sum().backward()
        grads.append(anchor.vit.blocks[0].mlp.fc1.weight.grad)
        runs.append(len(calls))
    torch.testing.assert_close(*grads)
    assert runs == [1, 2]


def test_pretrained_and_checkpoint_exclude_each_other():
    with pytest.raises(UserError, match="keep one"):
        Anchor("vit_tiny_patch16_224", (64, 64), pretrained=True, checkpoint="x.pth")
