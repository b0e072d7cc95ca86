"""Reading weights from disk. Files are data: safetensors, or ``torch.load(weights_only=True)``.

A file that asks for code is refused. ``MMSN_TRUST_CHECKPOINTS=1`` in the environment loads it
anyway, including code: for old files from a trusted source.

Damage is found by checksums. A ``.pth`` has one per tensor, which torch ignores and this module
checks; the format of ``.safetensors`` has none, so ``write_checkpoint`` adds one, and files of
other programs are not checked. ``mmsn.loaders`` makes mmengine read this way.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.logging import print_log
from torch import Tensor

from mmsn.errors import MissingFile, UserError
from mmsn.files import write_bytes

TRUST = "MMSN_TRUST_CHECKPOINTS"

# Where the usual training codes put the weights inside what they save.
WRAPPERS = ("state_dict", "model", "module")


def read_state_dict(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file or a PyTorch checkpoint.

    Args:
        path: a local file.
        prefix: only keys that start so are returned, without it.

    Raises:
        MissingFile: no such file.
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
        MissingFile: no such file.
        UserError: a file that holds more than data, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(
            f"checkpoint {str(path)!r} does not exist: give a local .safetensors, .pth or .pt file"
        )
    content: Any
    meta: Any = {}
    if path.suffix == ".safetensors":
        content, meta = _read_safetensors(path)
    else:
        content = read_pickle(path)
    if isinstance(content, dict) and isinstance(content.get("meta"), dict):
        meta = content["meta"].get("dataset_meta")
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {}
    if isinstance(content, dict):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"checkpoint {str(path)!r} holds no named tensors")
    meta = meta if isinstance(meta, dict) else {}
    return tensors, {name: meta[name] for name in ("classes", "palette") if name in meta}


def write_checkpoint(path: Path, tensors: dict[str, Tensor], dataset_meta: dict[str, Any]) -> None:
    """Write a ``.safetensors`` or ``.pth`` that ``read_checkpoint`` reads, whole or not at all."""
    meta = {"dataset_meta": dataset_meta} if dataset_meta else {}
    if path.suffix == ".safetensors":
        text = {name: json.dumps(value) for name, value in meta.items()}
        text |= {"format": "pt", "sha256": digest_of(tensors)}
        write_bytes(path, safetensors.torch.save(tensors, text))
    else:
        write_pickle(path, {"state_dict": tensors, "meta": meta})


def write_pickle(path: Path, content: Any) -> None:
    """Write what ``torch.save`` makes of it, whole or not at all.

    It goes through memory: on a full disk, ``torch.save`` itself hides the system's reason.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def trusts_checkpoints() -> bool:
    """Whether the user has disabled the protection against code in checkpoints."""
    return os.environ.get(TRUST, "").strip().lower() in ("1", "true", "yes", "on")


def read_pickle(path: Path, map_location: Any = "cpu") -> Any:
    """What ``torch.save`` has written, as data; checked against the checksums in the file.

    Raises:
        UserError: a file that is damaged, or that asks for more than data.
    """
    trusted = trusts_checkpoints()
    if trusted:
        print_log(
            f"{TRUST} is set: checkpoint {str(path)!r} may run code while it is loaded",
            logger="current",
            level=logging.WARNING,
        )
    else:
        damage = find_damage(path)
        if damage is not None:
            raise UserError(
                f"checkpoint {str(path)!r} is damaged ({damage}): copy or write it again"
            )
    try:
        return torch.load(path, map_location=map_location, weights_only=not trusted)
    except Exception as error:  # whatever bytes a file holds, the reason names the file
        raise UserError(
            f"checkpoint {str(path)!r} cannot be read as plain tensors ({refusal(error)}): "
            f"save its state dict alone, or set {TRUST}=1 if you trust its source: code in it "
            "would run"
        ) from error


def find_damage(path: Path) -> str | None:
    """What is wrong with the bytes of a ``torch.save`` file, as far as checksums show it.

    Files of torch before 1.6 have no checksums; nothing is found wrong with them here.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    if not start:
        return "it is empty"
    if start != b"PK\x03\x04":  # an old pickle, or not a checkpoint: loading it decides
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            # torch ignores these checksums, and so accepts flipped bits
            broken = archive.testzip()
    except Exception as error:  # damaged archives raise many kinds of exceptions
        return f"its end or its index is missing: {error}"
    return None if broken is None else f"the checksum of {broken!r} does not fit"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
            meta = json.loads(metadata.get("dataset_meta", "{}"))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "the file is empty")
        raise UserError(
            f"checkpoint {str(path)!r} cannot be read as plain tensors ({reason}): copy or write "
            "it again"
        ) from error
    if "sha256" in metadata and metadata["sha256"] != digest_of(content):
        raise UserError(
            f"checkpoint {str(path)!r} is damaged (its checksum does not fit): copy or write it "
            "again"
        )
    return content, meta


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and content of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()


def warn_of_non_finite(path: str | Path, tensors: Mapping[str, Any]) -> None:
    """One line where weights are NaN or infinite; what such a network predicts means nothing."""
    bad = [
        name
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
        and tensor.is_floating_point()
        and not torch.isfinite(tensor).all()
    ]
    if bad:
        print_log(
            f"checkpoint {str(path)!r}: {len(bad)} of {len(tensors)} tensors hold NaN or infinity, "
            f"first {bad[0]!r}: its predictions mean nothing; take one from before the training "
            "diverged",
            logger="current",
            level=logging.WARNING,
        )


def refusal(error: Exception) -> str:
    """Why torch refused a file: what the file asked for, or else the first line of the reason."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return f"it asks for {found[1]}"
    if "Weights only load failed" in str(error):
        return "it is not a PyTorch file"
    return next(iter(str(error).strip().splitlines()), "the file is empty")
