"""An anchor: one of timm's plain ViTs behind the few calls that stitching needs.

timm builds and loads the ViT, so any family that is a timm ``VisionTransformer`` works: DeiT-3,
DeiT, AugReg, DINOv2, MAE, CLIP towers. What only classification uses (final norm, pooling, head)
is removed, because dense heads read raw block outputs.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import Any

import timm
import torch
from mmengine.logging import print_log
from timm.layers import PatchEmbed
from timm.models.vision_transformer import (
    Block,
    ResPostBlock,
    VisionTransformer,
    checkpoint_filter_fn,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from mmsn.errors import UserError
from mmsn.models.rel_pos import RelativePositionBias
from mmsn.state_dict import read_state_dict
from mmsn.stitching import AnchorCost

EMBEDDING_PARAMETERS = ("cls_token", "dist_token", "reg_token", "pos_embed")
CLASSIFICATION_PARTS = ("norm", "fc_norm", "head", "head_dist", "attn_pool")


class Anchor(nn.Module):
    """A timm ``VisionTransformer`` that can be run block by block, at any input size.

    Args:
        model_name: a timm name, for example ``deit3_small_patch16_224.fb_in22k_ft_in1k``.
        img_size: (height, width) for which position embeddings are stored; other sizes resample
            them on the fly.
        pretrained: take timm's published weights, when weights are initialized.
        checkpoint: take the weights of this local .pth or .safetensors file instead. Position and
            patch embeddings of another size are resampled by timm's own rules.
        prefix: part of the checkpoint's keys before timm's names; ``backbone.anchors.0.`` for an
            anchor trained with this package.
        rel_pos_bias: add a trained relative position bias to every attention, as the published
            SN-Netv2 segmentors do; zero at first.
        with_cp: recompute blocks in the backward pass, to save memory.
        timm_options: anything else that timm's model takes, for example ``drop_path_rate``.
    """

    def __init__(
        self,
        model_name: str,
        img_size: tuple[int, int],
        pretrained: bool = False,
        checkpoint: str | None = None,
        prefix: str = "",
        rel_pos_bias: bool = False,
        with_cp: bool = False,
        **timm_options: Any,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint is not None:
            raise UserError(
                f"anchor {model_name!r} has both pretrained=True and checkpoint={checkpoint!r}: "
                "keep one"
            )
        self._whole = partial(
            Anchor,
            model_name,
            img_size,
            pretrained,
            checkpoint,
            prefix,
            rel_pos_bias,
            with_cp,
            **timm_options,
        )
        self.model_name, self.pretrained = model_name, pretrained
        self.checkpoint, self.prefix, self.with_cp = checkpoint, prefix, with_cp
        self._timm_options = dict(
            num_classes=0,
            img_size=img_size,
            dynamic_img_size=True,
            dynamic_img_pad=True,
            **timm_options,
        )
        self.vit = self._create(pretrained=False)
        self.depth: int = len(self.vit.blocks)
        self.dim: int = self.vit.embed_dim
        self.prefix_tokens: int = self.vit.num_prefix_tokens
        self.patch_size: tuple[int, int] = tuple(self.vit.patch_embed.patch_size)
        self.rel_pos = self._relative_positions() if rel_pos_bias else None
        self._cost = self._count()
        self.is_whole = True

    def _create(self, pretrained: bool) -> VisionTransformer:
        if not timm.is_model(self.model_name):
            raise UserError(
                f"anchor {self.model_name!r} is no timm model: timm.list_models('*vit*') and "
                "timm.list_models('deit*') list the plain ViTs"
            )
        options = self._timm_options
        if torch.empty(0).is_meta:  # there is nothing to initialize, and trying takes long
            options = dict(options, weight_init="skip")
        try:
            vit = timm.create_model(self.model_name, pretrained=pretrained, **options)
        except TypeError as error:
            raise UserError(
                f"anchor {self.model_name!r} does not take these options as a plain timm "
                f"VisionTransformer would: {error}"
            ) from error
        if not isinstance(vit, VisionTransformer):
            raise UserError(
                f"anchor {self.model_name!r} is a {type(vit).__name__}, but an anchor must be a "
                "plain timm VisionTransformer, for example 'vit_small_patch16_224'"
            )
        plain = all(isinstance(block, (Block, ResPostBlock)) for block in vit.blocks)
        if not plain or not isinstance(vit.patch_embed, PatchEmbed):
            raise UserError(
                f"anchor {self.model_name!r} is a hybrid or has parallel blocks, not a "
                "plain ViT such as 'vit_small_patch16_224'"
            )
        for part in CLASSIFICATION_PARTS:
            if getattr(vit, part, None) is not None:
                setattr(vit, part, nn.Identity())
        return vit

    def _relative_positions(self) -> RelativePositionBias:
        _, prefix, registers = self.token_layout
        if (prefix, registers) != (1, 0):
            raise UserError(
                f"anchor {self.model_name!r} has {prefix} class and {registers} register tokens, "
                "but rel_pos_bias needs one class token alone"
            )
        heads = self.vit.blocks[0].attn.num_heads
        return RelativePositionBias(self.depth, heads, tuple(self.vit.patch_embed.grid_size))

    @property
    def token_layout(self) -> tuple[tuple[int, int], int, int]:
        """((patch height, patch width), class and distillation tokens, register tokens).

        Tokens can pass between anchors only if this is the same.
        """
        registers = self.vit.num_reg_tokens
        return self.patch_size, self.prefix_tokens - registers, registers

    def keep(self, blocks: Collection[int], embedding: bool) -> None:
        """Give up all other blocks, and the embedding of images unless it is asked for.

        What stays keeps its name in the state dict and its place in ``run``; ``cost`` stays that
        of the whole anchor.
        """
        for index in set(range(self.depth)).difference(blocks):
            self.vit.blocks[index] = nn.Identity()
            if self.rel_pos is not None:
                del self.rel_pos.tables[str(index)]
        if not embedding:
            self.vit.patch_embed, self.vit.norm_pre = nn.Identity(), nn.Identity()
            for name in EMBEDDING_PARAMETERS:
                if getattr(self.vit, name, None) is not None:
                    setattr(self.vit, name, None)
        self.is_whole = embedding and len(blocks) == self.depth

    def init_weights(self) -> None:
        """Load the pretrained weights or the checkpoint, if the anchor has one.

        Raises:
            FileNotFoundError: the checkpoint is not there.
            UserError: keys are missing, unknown or of another shape; all are listed.
        """
        if not self.is_whole:
            if self.pretrained or self.checkpoint is not None:
                whole = self._whole()
                whole.init_weights()
                self.load_state_dict({k: whole.state_dict()[k] for k in self.state_dict()})
        elif self.pretrained:
            try:
                donor = self._create(pretrained=True)
            except Exception as error:
                raise RuntimeError(
                    f"anchor {self.model_name!r}: its pretrained weights cannot be had "
                    f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); give a local "
                    "file as checkpoint= instead of pretrained=True"
                ) from error
            self.vit.load_state_dict(donor.state_dict())
        elif self.checkpoint is not None:
            self._load_checkpoint(self.checkpoint)

    def _load_checkpoint(self, path: str) -> None:
        found = read_state_dict(path, self.prefix)
        if any(key.startswith("vit.") for key in found):  # as this package saves an anchor
            tables = {k: v for k, v in found.items() if k.startswith("rel_pos.")}
            vit = {k.removeprefix("vit."): v for k, v in found.items() if k not in tables}
        else:
            tables, vit = {}, found
        self._check_grid(path, vit)
        state = checkpoint_filter_fn(dict(vit), self.vit, adapt_layer_scale=True)
        kept = {id(value) for value in state.values()}
        unused = [k for k, v in vit.items() if id(v) not in kept and k not in state]
        parts = tuple(f"{part}." for part in CLASSIFICATION_PARTS)
        unused += [key for key in state if key.startswith(parts)]
        state = {key: value for key, value in state.items() if not key.startswith(parts)}
        own = self.vit.state_dict()
        if self.rel_pos is not None and tables:
            own |= {f"rel_pos.{k}": v for k, v in self.rel_pos.state_dict().items()}
        state |= tables
        faults = [f"{key} is missing" for key in own if key not in state]
        faults += [f"{key} is unknown" for key in state if key not in own]
        if tables and self.rel_pos is None:
            faults.append("its position tables need rel_pos_bias=True")
        faults += [
            f"{key} has shape {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ]
        faults += [
            f"{key} holds NaN or infinity"
            for key, value in state.items()
            if not torch.isfinite(value).all()
        ]
        if faults:
            raise UserError(
                f"checkpoint {path!r} does not fit anchor {self.model_name!r} "
                f"({len(faults)} faults): {'; '.join(faults)}"
            )
        self.vit.load_state_dict({k: v for k, v in state.items() if k not in tables})
        if self.rel_pos is not None and tables:
            self.rel_pos.load_state_dict({k.removeprefix("rel_pos."): v for k, v in tables.items()})
        if unused:
            print_log(
                f"{path}: not used, because dense heads read block outputs: "
                f"{', '.join(sorted(unused))}",
                logger="current",
            )

    def _check_grid(self, path: str, state: dict[str, Tensor]) -> None:
        """timm takes stored position embeddings of another size for square ones."""
        position = state.get("pos_embed")
        if position is None:
            return
        patches = position.shape[1] - (0 if self.vit.no_embed_class else self.prefix_tokens)
        height, width = self.vit.patch_embed.grid_size
        if patches != height * width and math.isqrt(max(patches, 0)) ** 2 != patches:
            raise UserError(
                f"checkpoint {path!r} has position embeddings for {patches} patches, which is no "
                f"square and not the {height}x{width} of this anchor: give the img_size that it "
                "was saved with; inputs may still have any size"
            )

    def embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) image to (B, N, C) tokens with position embedding, and the (h, w) grid.

        Height and width need not be multiples of the patch: the image is padded below and right.
        """
        vit = self.vit
        patches = vit.patch_embed(image)  # (B, h, w, C)
        grid = (patches.shape[1], patches.shape[2])
        return vit.norm_pre(vit.patch_drop(vit._pos_embed(patches))), grid

    def run(self, tokens: Tensor, start: int, stop: int, grid: tuple[int, int]) -> Tensor:
        """Run blocks ``start`` to ``stop`` (half-open) on (B, N, C) tokens of an (h, w) grid."""
        for index in range(start, stop):
            block = self.vit.blocks[index]
            bias = None if self.rel_pos is None else self.rel_pos(index, grid)
            if self.with_cp and self.training and torch.is_grad_enabled():
                tokens = recompute(block, tokens, attn_mask=bias, use_reentrant=False)
            else:
                tokens = block(tokens, attn_mask=bias)
        return tokens

    def cost(self) -> AnchorCost:
        """The shapes that the cost model needs, read off the modules of the whole anchor."""
        return self._cost

    def _count(self) -> AnchorCost:
        vit, block = self.vit, self.vit.blocks[0]
        embedding = [vit.patch_embed, vit.norm_pre]
        tables = 0 if self.rel_pos is None else self.rel_pos.tables["0"].numel()
        loose = [getattr(vit, name, None) for name in EMBEDDING_PARAMETERS]
        return AnchorCost(
            dim=self.dim,
            patch_size=self.token_layout[0],
            prefix_tokens=self.prefix_tokens,
            embed_linear=sum(map(_weights, embedding)),
            embed_norm=sum(map(_normalized, embedding)),
            embed_params=sum(map(_params, embedding))
            + sum(p.numel() for p in loose if p is not None),
            block_linear=_weights(block),
            block_norm=_normalized(block),
            block_params=_params(block) + tables,
            attention_dim=block.attn.num_heads * block.attn.head_dim,
        )


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _weights(module: nn.Module) -> int:
    """Weights of linear layers and patch convolutions: multiply-accumulates per token."""
    layers = (m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    return sum(layer.weight.numel() for layer in layers)


def _normalized(module: nn.Module) -> int:
    """Elements per token that norms touch; norms of queries and keys repeat for every head."""
    total = 0
    for name, norm in module.named_modules():
        shape = getattr(norm, "normalized_shape", None)
        if shape is not None:
            per_head = name.endswith(("attn.q_norm", "attn.k_norm"))
            heads = module.get_submodule("attn").num_heads if per_head else 1
            total += heads * math.prod(shape)
    return total
