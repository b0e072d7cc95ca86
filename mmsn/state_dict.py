"""Reading weights from disk. Files are data: safetensors, or ``torch.load(weights_only=True)``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

# Where the usual training codes put the weights inside what they save.
WRAPPERS = ("state_dict", "model", "module")


def read_state_dict(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file or a PyTorch checkpoint.

    Args:
        path: a local file.
        prefix: only keys that start so are returned, without it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds more than data or no tensors, or no key with the prefix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"checkpoint {str(path)!r} does not exist: give a local .safetensors, .pth or .pt file"
        )
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes a file holds, the reason names the file
        raise ValueError(
            f"checkpoint {str(path)!r} cannot be read as plain tensors ({_refused(error)}): "
            "save its state dict alone, for example as .safetensors"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {}
    if isinstance(content, dict):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"checkpoint {str(path)!r} holds no named tensors")
    chosen = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    if not chosen:
        raise ValueError(
            f"checkpoint {str(path)!r} has no key that starts with {prefix!r}: its first key is "
            f"{next(iter(tensors))!r}"
        )
    return chosen


def _refused(error: Exception) -> str:
    """The object that a checkpoint asked for, or else the first line of the reason."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return f"it asks for {found[1]}"
    if "Weights only load failed" in str(error):
        return "it is no file of PyTorch"
    return next(iter(str(error).strip().splitlines()), "the file is empty")
