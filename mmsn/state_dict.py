"""Reading weights from disk. Files are data: safetensors, or ``torch.load(weights_only=True)``.

Importing this teaches mmengine to load ``.safetensors`` wherever it loads a checkpoint.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmsn.errors import UserError

# Where the usual training codes put the weights inside what they save.
WRAPPERS = ("state_dict", "model", "module")


def read_state_dict(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file or a PyTorch checkpoint.

    Args:
        path: a local file.
        prefix: only keys that start so are returned, without it.

    Raises:
        FileNotFoundError: no such file.
        UserError: a file that holds more than data or no tensors, or no key with the prefix.
    """
    tensors, _ = read_checkpoint(path)
    chosen = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not chosen:
        raise UserError(
            f"checkpoint {str(path)!r} has no key that starts with {prefix!r}: its first key is "
            f"{next(iter(tensors))!r}"
        )
    return chosen


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read named tensors, and the classes and palette that mmengine saves as ``dataset_meta``.

    Raises:
        FileNotFoundError: no such file.
        UserError: a file that holds more than data, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {str(path)!r} does not exist: give a local .safetensors, .pth or .pt file"
        )
    content: Any
    meta: Any = {}
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                meta = json.loads((file.metadata() or {}).get("dataset_meta", "{}"))
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes a file holds, the reason names the file
        raise UserError(
            f"checkpoint {str(path)!r} cannot be read as plain tensors ({_refused(error)}): "
            "save its state dict alone, for example as .safetensors"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("meta"), dict):
        meta = content["meta"].get("dataset_meta") or {}
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {}
    if isinstance(content, dict):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"checkpoint {str(path)!r} holds no named tensors")
    return tensors, {name: meta[name] for name in ("classes", "palette") if name in meta}


def write_checkpoint(path: Path, tensors: dict[str, Tensor], dataset_meta: dict[str, Any]) -> None:
    """Write a ``.safetensors`` or ``.pth`` that ``read_checkpoint`` reads, whole or not at all."""
    part = path.with_name(path.name + ".part")
    meta = {"dataset_meta": dataset_meta} if dataset_meta else {}
    if path.suffix == ".safetensors":
        text = {name: json.dumps(value) for name, value in meta.items()}
        part.touch()
        mode = part.stat().st_mode
        safetensors.torch.save_file(tensors, part, {"format": "pt", **text})
        part.chmod(mode)  # safetensors would let the owner alone read it
    else:
        torch.save({"state_dict": tensors, "meta": meta}, part)
    part.replace(path)


# mmengine matches the whole path; unless a scheme is more special, such as "https://".
@CheckpointLoader.register_scheme(prefixes=r".*\.safetensors$", force=True)
def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """A ``.safetensors`` file as mmengine's own loaders give a checkpoint."""
    tensors, meta = read_checkpoint(Path(filename).expanduser())
    checkpoint: dict[str, Any] = dict(state_dict=tensors, meta={})
    if meta:
        checkpoint["meta"]["dataset_meta"] = meta
    return checkpoint


def _refused(error: Exception) -> str:
    """The object that a checkpoint asked for, or else the first line of the reason."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return f"it asks for {found[1]}"
    if "Weights only load failed" in str(error):
        return "it is no file of PyTorch"
    return next(iter(str(error).strip().splitlines()), "the file is empty")
