"""The shape of a child anchor and the weights that it starts from.

A child of ``depth`` blocks replaces its parent unit by unit: its block i replaces the parent's
blocks ``[i * r, (i + 1) * r)``, where r is the parent's depth over the child's. These are the
positions at which ``StitchSpace`` joins anchors of two depths. Training is in ``distill``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.shrink.width import narrow_state, principal_basis

STARTS = ("parent", "random")
CHUNK = 8  # images at a time, for memory


@dataclass(frozen=True)
class ChildPlan:
    """What a child is made of.

    ``blocks[i]`` is the parent's block whose weights the child's block i starts from; ``unit``
    counts the parent's blocks that each block of the child replaces.
    """

    blocks: tuple[int, ...]
    unit: int
    width: int
    heads: int
    parent_width: int
    parent_heads: int

    @property
    def is_narrower(self) -> bool:
        return self.width != self.parent_width

    @property
    def depth(self) -> int:
        return len(self.blocks)


def load_parent(
    model_name: str,
    checkpoint: str | None = None,
    prefix: str = "",
    img_size: tuple[int, int] | None = None,
    **timm_options: Any,
) -> Anchor:
    """The trained anchor to shrink, in evaluation mode and without gradients.

    Args:
        model_name: a timm name.
        checkpoint: a local file; without one, timm's published weights.
        prefix: of the checkpoint's keys, as ``Anchor`` takes it.
        img_size: for which position embeddings are stored; the model's own by default.
    """
    if img_size is None:
        img_size = native_size(model_name, **timm_options)
    parent = Anchor(
        model_name,
        img_size,
        pretrained=checkpoint is None,
        checkpoint=checkpoint,
        prefix=prefix,
        **timm_options,
    )
    parent.init_weights()
    return parent.eval().requires_grad_(False)


def native_size(model_name: str, **timm_options: Any) -> tuple[int, int]:
    """(height, width) that a timm model was published for."""
    with torch.device("meta"):
        vit = Anchor(model_name, (224, 224), **timm_options).vit
    height, width = vit.pretrained_cfg["input_size"][1:]
    return height, width


def plan_child(
    parent: Anchor,
    depth: int | None = None,
    blocks: str | Sequence[int] = "first",
    width: int | None = None,
    heads: int | None = None,
) -> ChildPlan:
    """Check what was asked for and fill in the rest.

    Args:
        depth: blocks of the child; must divide the parent's. All of them by default.
        blocks: ``first`` starts from the parent's first blocks, ``every`` from the first block of
            each unit; or the numbers of ``depth`` blocks.
        width: channels of a token; the parent's by default.
        heads: attention heads; by default as many as fit the width at the parent's head
            width.

    Raises:
        UserError: a depth, block, width or head count that does not fit.
    """
    attention = parent.vit.blocks[0].attn
    if depth is None:
        depth = parent.depth if isinstance(blocks, str) else len(blocks)
    width = parent.dim if width is None else width
    if depth < 1 or parent.depth % depth:
        allowed = [d for d in range(1, parent.depth + 1) if parent.depth % d == 0]
        raise UserError(f"depth {depth} does not divide the parent's {parent.depth}: {allowed}")
    if not 1 <= width <= parent.dim:
        raise UserError(f"width {width} must lie between 1 and the parent's {parent.dim}")
    if heads is None:
        if width % attention.head_dim:
            raise UserError(
                f"width {width} is not a multiple of the parent's head width {attention.head_dim}: "
                "choose one that is, or give the number of heads"
            )
        heads = width // attention.head_dim
    if heads < 1 or width % heads:
        raise UserError(f"width {width} cannot be divided into {heads} heads")
    if width < parent.dim and (heads > attention.num_heads or width // heads > attention.head_dim):
        raise UserError(
            f"{heads} heads of {width // heads} channels cannot be cut from the parent's "
            f"{attention.num_heads} of {attention.head_dim}"
        )
    if width == parent.dim and heads != attention.num_heads:
        raise UserError(f"{heads} heads at the parent's width: it has {attention.num_heads}")
    return ChildPlan(
        blocks=_chosen_blocks(blocks, depth, parent.depth),
        unit=parent.depth // depth,
        width=width,
        heads=heads,
        parent_width=parent.dim,
        parent_heads=attention.num_heads,
    )


def _chosen_blocks(blocks: str | Sequence[int], depth: int, parent_depth: int) -> tuple[int, ...]:
    if blocks == "first":
        return tuple(range(depth))
    if blocks == "every":
        return tuple(range(0, parent_depth, parent_depth // depth))
    if isinstance(blocks, str):
        raise UserError(f"blocks {blocks!r}: give 'first', 'every' or numbers such as 0,2,5")
    chosen = tuple(blocks)
    if len(chosen) != depth or not all(0 <= block < parent_depth for block in chosen):
        raise UserError(
            f"blocks {','.join(map(str, chosen))}: give {depth} numbers from 0 to "
            f"{parent_depth - 1}, as many as the depth"
        )
    return chosen


def child_options(plan: ChildPlan, parent_options: Mapping[str, Any]) -> dict[str, Any]:
    """Timm options with which ``Anchor`` builds the child; only what differs from the name's."""
    options = dict(parent_options)
    if plan.unit > 1 or "depth" in options:
        options["depth"] = plan.depth
    if plan.is_narrower or "embed_dim" in options:
        options.update(embed_dim=plan.width, num_heads=plan.heads)
    return options


def start_child(
    parent: Anchor,
    plan: ChildPlan,
    img_size: tuple[int, int],
    timm_options: Mapping[str, Any],
    start: str = "parent",
    images: Tensor | None = None,
) -> tuple[Anchor, Tensor | None]:
    """Build the child with its first weights.

    Args:
        timm_options: from ``child_options``.
        start: ``parent`` copies the chosen blocks, narrowed if need be; ``random`` leaves timm's
            initialization; anything else is a file of weights of this shape, for example of the
            child that was made before the parent was fine-tuned.
        images: (B, 3, H, W), normalized; only a narrower start reads them.

    Returns:
        The child, and the (width, parent width) projection that narrowed it, if one did.
    """
    file = None if start in STARTS else start
    if file is not None and not Path(file).is_file():
        raise UserError(f"start {start!r}: choose one of {', '.join(STARTS)}, or an existing file")
    child = Anchor(parent.model_name, img_size, checkpoint=file, **timm_options)
    child.init_weights()
    child.eval()
    if start != "parent":
        return child, None
    state, basis = parent.vit.state_dict(), None
    if plan.is_narrower:
        if images is None:
            raise UserError("a narrower start needs images: give some, or start='random'")
        images = images.to(next(parent.parameters()).device)
        chunks = (unit_outputs(parent, part, plan.unit) for part in images.split(CHUNK))
        basis = principal_basis(chain.from_iterable(chunks), plan.width)
        state = narrow_state(parent.vit, basis, plan.heads, child.vit)
    # Strict: every weight of the child comes from the parent, or this fails.
    child.vit.load_state_dict(pick_blocks(state, plan.blocks))
    return child, basis


def pick_blocks(state: Mapping[str, Tensor], blocks: Sequence[int]) -> dict[str, Tensor]:
    """The state dict of a ViT with only these blocks, renumbered."""
    picked = {key: value for key, value in state.items() if not key.startswith("blocks.")}
    for place, block in enumerate(blocks):
        own = f"blocks.{block}."
        picked |= {
            f"blocks.{place}.{key.removeprefix(own)}": value
            for key, value in state.items()
            if key.startswith(own)
        }
    return picked


def unit_outputs(anchor: Anchor, images: Tensor, unit: int) -> list[Tensor]:
    """Tokens (B, N, C) after the embedding and after every ``unit`` blocks."""
    tokens, grid = anchor.embed(images)
    outputs = [tokens]
    for start in range(0, anchor.depth, unit):
        tokens = anchor.run(tokens, start, start + unit, grid)
        outputs.append(tokens)
    return outputs
