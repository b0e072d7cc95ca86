"""timm's plain ViT classes behind one interface, with one small adapter per class.

``VisionTransformer``: DeiT, DeiT-3, AugReg, DINOv2, MAE, CLIP and SigLIP towers. ``Eva``: DINOv3,
EVA-02, Perception Encoder, ROPE-ViT. Any family that timm adds to these two classes works, too.
This is the only module of the package that knows the attribute names of the two classes; timm's
own methods do the work wherever they can be called separately.

Left out on purpose: hybrids, hierarchical ViTs and parallel blocks. Random changes of rotary
coordinates during training are off, because the anchors of a stitch would draw different ones.
"""

from __future__ import annotations

import io
import math
import re
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import timm
import torch
from timm.layers import PatchEmbed
from timm.layers.pos_embed_sincos import get_mixed_freqs, get_mixed_grid
from timm.models import eva, vision_transformer
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.grid_cache import Grid, GridCache

EMBEDDING_PARAMETERS = ("cls_token", "dist_token", "reg_token", "pos_embed")
CLASSIFICATION_PARTS = ("norm", "fc_norm", "head", "head_dist", "attn_pool")
RANDOM_COORDS = re.compile("rope_.*_coords")


class TokenLayout(NamedTuple):
    """What a sequence of tokens holds; tokens can pass between anchors only if it is the same.

    ``patch_size`` is (height, width) in pixels. Class tokens, of which a distillation token is
    one, come first, then registers, then patches row by row.
    """

    patch_size: tuple[int, int]
    class_tokens: int
    register_tokens: int

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches."""
        return self.class_tokens + self.register_tokens

    def __str__(self) -> str:
        height, width = self.patch_size
        return (
            f"patch_size {height}x{width}, class_tokens {self.class_tokens}, "
            f"register_tokens {self.register_tokens}"
        )


class PlainViT:
    """What an anchor needs from a timm ViT; unchanged, the adapter of ``VisionTransformer``.

    A plain object, not a module, so that it adds nothing to the names in a state dict.
    """

    blocks: tuple[type[nn.Module], ...] = (Block, ResPostBlock)

    def __init__(self, vit: Any) -> None:
        self.vit = vit
        registers = 0 if vit.reg_token is None else vit.reg_token.shape[1]
        patch_height, patch_width = vit.patch_embed.patch_size
        self.layout = TokenLayout(
            (patch_height, patch_width), vit.num_prefix_tokens - registers, registers
        )

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """(B, 3, H, W) image to (B, N, C) tokens as the first block reads them, and the grid."""
        patches = self.vit.patch_embed(image)  # (B, h, w, C)
        return self.vit.norm_pre(self._positions(patches)), (patches.shape[1], patches.shape[2])

    def _positions(self, patches: Tensor) -> Tensor:
        return self.vit._pos_embed(patches)

    def block_options(self, index: int, grid: Grid) -> dict[str, Tensor]:
        """Keyword arguments of a block, in addition to its tokens."""
        return {}

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint in timm's names and sizes, whatever code of the family wrote it."""
        return vision_transformer.checkpoint_filter_fn(state, self.vit, adapt_layer_scale=True)

    def params_per_block(self) -> int:
        """Parameters of each block that timm keeps outside of it."""
        return 0


class EvaViT(PlainViT):
    """The adapter of ``Eva``, whose blocks read rotary position embeddings."""

    blocks = (EvaBlock, EvaBlockPostNorm)

    def __init__(self, vit: Any) -> None:
        super().__init__(vit)
        if vit.rope is not None:
            vit.rope.aug_active = False  # some families have it by default; see the module
            if not vit.rope_mixed:
                vit.rope = CachedRope(vit.rope)

    def _positions(self, patches: Tensor) -> Tensor:
        return self.vit._pos_embed(patches)[0]

    def block_options(self, index: int, grid: Grid) -> dict[str, Tensor]:
        """The rotary table of a block: that of the grid, or of its own trained frequencies."""
        rope = self.vit.rope
        if rope is None:
            return {}
        if not self.vit.rope_mixed:
            return dict(rope=rope.get_embed(grid))
        x, y = get_mixed_grid(grid, rope.grid_indexing, rope.freqs.device)
        return dict(rope=get_mixed_freqs(rope.freqs[:, index], x, y))

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """As for every adapter.

        Raises:
            UserError: biases that this model would lose.
        """
        with redirect_stdout(io.StringIO()):  # it prints a line for every bias that it drops
            converted = eva.checkpoint_filter_fn(state, self.vit)
        lost = [
            name
            for name, value in state.items()
            if name.endswith("attn.qkv.bias")
            and name.replace("qkv.bias", "q_bias") not in converted
            and name not in converted
            and value.any()
        ]
        if lost:
            raise UserError(
                f"checkpoint has biases of queries and values ({lost[0]} and {len(lost) - 1} more) "
                "that this model lacks: choose its form with biases, whose name ends in '_qkvb'"
            )
        return converted

    def params_per_block(self) -> int:
        """Trained rotary frequencies, of which each block has its own."""
        return self.vit.rope.freqs[:, 0].numel() if self.vit.rope_mixed else 0


class CachedRope(nn.Module):
    """timm's rotary position embedding without trained parameters, one table per grid.

    Modifications: timm makes the table again in every forward pass. Its values and its dtype stay:
    float32 at least, also where tokens are in half precision, because timm rotates in that.
    """

    rope: Any

    def __init__(self, rope: nn.Module) -> None:
        super().__init__()
        self.rope = rope
        self._tables = GridCache()

    def get_embed(self, shape: Grid) -> Tensor:
        """(h·w, 2·head_dim) sines and cosines of an (h, w) grid, on the device of the module."""
        grid = (shape[0], shape[1])
        sources = tuple((buffer.device, buffer.dtype) for buffer in self.rope.buffers())
        return self._tables.get((grid, sources), lambda: self._make(grid))

    def _make(self, grid: Grid) -> Tensor:
        device = next(self.rope.buffers()).device
        with torch.autocast(device.type if device.type != "meta" else "cpu", enabled=False):
            return self.rope.get_embed(shape=grid)


ADAPTERS: dict[type[nn.Module], type[PlainViT]] = {VisionTransformer: PlainViT, Eva: EvaViT}


def create(model_name: str, pretrained: bool, options: dict[str, Any]) -> PlainViT:
    """Build a model of timm, without the parts that only classification uses, and its adapter.

    Raises:
        UserError: a name that timm does not have, options that the model does not take, or a model
            that is not a plain ViT.
    """
    random_coords = [name for name in options if RANDOM_COORDS.fullmatch(name)]
    if random_coords:
        raise UserError(
            f"anchor {model_name!r} has {', '.join(random_coords)}, but the anchors of a stitch "
            "share one grid: leave it out"
        )
    vit = create_timm(model_name, pretrained, options, "plain timm ViT")
    adapter = next((a for kind, a in ADAPTERS.items() if isinstance(vit, kind)), None)
    if adapter is None:
        raise UserError(
            f"anchor {model_name!r} is a {type(vit).__name__}, but an anchor must be a plain timm "
            f"{' or '.join(kind.__name__ for kind in ADAPTERS)}, for example "
            "'vit_small_patch16_224' or 'vit_small_patch16_dinov3'"
        )
    plain = all(isinstance(block, adapter.blocks) for block in vit.blocks)
    if not plain or not isinstance(vit.patch_embed, PatchEmbed):
        raise UserError(
            f"anchor {model_name!r} is a hybrid or has parallel blocks, not a "
            "plain ViT such as 'vit_small_patch16_224'"
        )
    if not isinstance(vit.patch_drop, (nn.Identity, type(None))):
        raise UserError(
            f"anchor {model_name!r} has patch_drop_rate, but dense heads need every patch: "
            "leave it out"
        )
    for part in CLASSIFICATION_PARTS:
        if getattr(vit, part, None) is not None:
            setattr(vit, part, nn.Identity())
    return adapter(vit)


def create_timm(model_name: str, pretrained: bool, options: dict[str, Any], kind: str) -> Any:
    """A model of timm; ``kind`` says in errors what it should be.

    Raises:
        UserError: a name that timm does not have, or options that the model does not take.
    """
    if not timm.is_model(model_name):
        raise UserError(
            f"anchor {model_name!r} is not a timm model: timm.list_models('*vit*') and "
            "timm.list_models('deit*') list the plain ViTs, timm.list_models('swin_*') the Swins"
        )
    try:
        return _create(model_name, pretrained, options)
    except (TypeError, AssertionError) as error:  # timm asserts that sizes fit together
        reason = " ".join(str(error).split())
        if isinstance(error, AssertionError):
            reason = f"AssertionError: {reason}"
        raise UserError(
            f"anchor {model_name!r} does not take these options as a {kind} would: {reason}"
        ) from error


def _create(model_name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    if torch.empty(0).is_meta:  # there is nothing to initialize, and trying takes long
        try:
            return timm.create_model(model_name, weight_init="skip", **options)
        except TypeError:  # Eva has no such option
            pass
    return timm.create_model(model_name, pretrained=pretrained, **options)


def fix_input_size(model: nn.Module, image_size: tuple[int, int]) -> None:
    """Resample the position embeddings of every timm ViT in a model to one (height, width)."""
    vits: list[Any] = [m for m in model.modules() if isinstance(m, tuple(ADAPTERS))]
    for vit in vits:
        if vit.pos_embed is not None:
            sides = zip(image_size, vit.patch_embed.patch_size, strict=True)
            vit.set_input_size([patch * math.ceil(side / patch) for side, patch in sides])
