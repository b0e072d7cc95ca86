"""Loading weights into an anchor: every key is used, named as unused, or refused.

Files are read as data, never run. Names and sizes of a family's own code are converted by timm.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmsn.errors import UserError
from mmsn.models.timm_vits import CLASSIFICATION_PARTS, create
from mmsn.state_dict import read_state_dict

if TYPE_CHECKING:
    from mmsn.models.anchor import Anchor


def load_pretrained(anchor: Anchor) -> None:
    """Load timm's published weights.

    Raises:
        UserError: they could not be loaded, for whatever reason timm has.
    """
    try:
        donor = create(anchor.model_name, True, anchor.timm_options)
    except Exception as error:
        raise UserError(
            f"anchor {anchor.model_name!r}: its pretrained weights could not be loaded "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); give a local "
            "file as checkpoint= instead of pretrained=True"
        ) from error
    anchor.vit.load_state_dict(donor.vit.state_dict())


def load_checkpoint(anchor: Anchor, path: str, prefix: str = "") -> None:
    """Load a local file: an anchor saved by this package, timm's names, or a family's own.

    Raises:
        MissingFile: the file is not there.
        UserError: keys are missing, unknown, of another shape or not finite; all are listed.
    """
    found = read_state_dict(path, prefix)
    if any(key.startswith("vit.") for key in found):  # as this package saves an anchor
        tables = {k: v for k, v in found.items() if k.startswith("rel_pos.")}
        vit = {k.removeprefix("vit."): v for k, v in found.items() if k not in tables}
    else:
        tables, vit = {}, found
    _check_grid(anchor, path, vit)
    state = anchor.plain.convert(dict(vit))
    # Conversions split and reshape: what is used shares its memory with a tensor of the result.
    kept = {_memory(value) for value in state.values()}
    unused = [k for k, v in vit.items() if _memory(v) not in kept and k not in state]
    parts = tuple(f"{part}." for part in CLASSIFICATION_PARTS)
    unused += [key for key in state if key.startswith(parts)]
    state = {key: value for key, value in state.items() if not key.startswith(parts)}

    own = anchor.vit.state_dict()
    if anchor.rel_pos is not None and tables:
        own |= {f"rel_pos.{k}": v for k, v in anchor.rel_pos.state_dict().items()}
    _check(anchor, path, own, state | tables)
    anchor.vit.load_state_dict(state)
    if anchor.rel_pos is not None and tables:
        anchor.rel_pos.load_state_dict({k.removeprefix("rel_pos."): v for k, v in tables.items()})
    if unused:
        print_log(
            f"{path}: not used, because dense heads read block outputs: "
            f"{', '.join(sorted(unused))}",
            logger="current",
        )


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _check(anchor: Anchor, path: str, own: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    faults = [f"{key} is missing" for key in own if key not in state]
    faults += [f"{key} is unknown" for key in state if key not in own]
    if anchor.rel_pos is None and any(key.startswith("rel_pos.") for key in state):
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
            f"checkpoint {path!r} does not fit anchor {anchor.model_name!r} "
            f"({len(faults)} faults): {'; '.join(faults)}"
        )


def _check_grid(anchor: Anchor, path: str, state: dict[str, Tensor]) -> None:
    """timm takes stored position embeddings of another size for square ones."""
    position, vit = state.get("pos_embed"), anchor.vit
    if position is None:
        return
    patches = position.shape[1] - (0 if vit.no_embed_class else anchor.prefix_tokens)
    height, width = vit.patch_embed.grid_size
    if patches != height * width and math.isqrt(max(patches, 0)) ** 2 != patches:
        raise UserError(
            f"checkpoint {path!r} has position embeddings for {patches} patches, which is not "
            f"square, nor the {height}x{width} of this anchor: give the img_size that it "
            "was saved with; inputs may still have any size"
        )
