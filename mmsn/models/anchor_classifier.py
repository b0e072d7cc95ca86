"""What classification adds to an anchor: final norm, pooling and classifier, as timm has them.

``Anchor`` removes these parts, because dense heads read raw tokens. Left out on purpose: attention
pooling, and the second head of distilled DeiTs.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.state_dict import read_state_dict
from mmsn.stitching.cost import NORM_MACS_PER_ELEMENT

PARTS = ("norm", "fc_norm", "head")


class AnchorClassifier(nn.Module):
    """The final norm, the pooling and the classifier of an anchor.

    Args:
        anchor: whose family and width decide the parts.
        num_classes: of the classifier.

    Raises:
        UserError: a model that pools by attention or has two heads.
    """

    def __init__(self, anchor: Anchor, num_classes: int) -> None:
        super().__init__()
        self.model_name = anchor.model_name
        self._options = dict(anchor.timm_options, num_classes=num_classes)
        with torch.device("meta"):
            whole = timm.create_model(anchor.model_name, **self._options)
        self.pool: str = whole.global_pool
        if self.pool not in ("token", "avg") or getattr(whole, "head_dist", None) is not None:
            kind = "two heads" if self.pool in ("token", "avg") else f"pooling {self.pool!r}"
            raise UserError(
                f"anchor {anchor.model_name!r} classifies with {kind}: choose a family that "
                "pools its class token or the mean of its patches, such as DeiT-3"
            )
        self.prefix_tokens = anchor.prefix_tokens
        self.norm, self.fc_norm, self.head = (_made(getattr(whole, part)) for part in PARTS)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) tokens of the last block to (B, classes) logits."""
        tokens = self.norm(tokens)
        is_token = self.pool == "token"
        pooled = tokens[:, 0] if is_token else tokens[:, self.prefix_tokens :].mean(1)
        return self.head(self.fc_norm(pooled))

    def macs(self, tokens: int) -> int:
        """Multiply-accumulates for this many tokens, as fvcore counts: 5·N·d + classes·d."""
        normed = sum(
            count * norm.normalized_shape[0]
            for norm, count in ((self.norm, tokens), (self.fc_norm, 1))
            if isinstance(norm, nn.LayerNorm)
        )
        return NORM_MACS_PER_ELEMENT * normed + self.head.weight.numel()

    def init_weights(self, anchor: Anchor) -> None:
        """Take norm and classifier from where the anchor takes its weights, as far as they fit.

        A classifier of another number of classes starts anew, and a line says so.

        Raises:
            UserError: a checkpoint without the final norm.
        """
        if anchor.pretrained:
            donor = timm.create_model(self.model_name, pretrained=True, **self._options)
            found = {k: v for k, v in donor.state_dict().items() if k.startswith(PARTS)}
        elif anchor.checkpoint is not None:
            state = anchor.plain.convert(read_state_dict(anchor.checkpoint, anchor.prefix))
            found = {k: v for k, v in state.items() if k.startswith(PARTS)}
        else:
            return
        own = self.state_dict()
        fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
        anew = sorted(own.keys() - fitting.keys())
        if any(not key.startswith("head.") for key in anew):
            raise UserError(
                f"{anchor.checkpoint!r} has no {', '.join(anew)} that fits {self.model_name!r}: "
                "give weights of a classifier, not of a backbone"
            )
        if anew:
            print_log(f"{self.model_name}: the classifier starts anew", logger="current")
        self.load_state_dict(fitting, strict=False)  # checked above


def _made(part: nn.Module) -> Any:
    """A module of the meta device with memory; norms as they start."""
    part = part.to_empty(device="cpu")
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    return part
