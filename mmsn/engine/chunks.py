"""Results of a long evaluation on disk, a chunk of images at a time.

A run that is killed at any moment continues after its last whole chunk and ends with the numbers
of an undisturbed one: what is kept are the metrics' own results per image, not their averages.
Files are written whole or not at all, and are read as data.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from mmsn.errors import UserError

# By stitch id: the results of each metric, one entry per image, as mmengine's metrics keep them.
Results = dict[int, list[list[Any]]]


class ChunkStore:
    """Numbered chunks of one evaluation by one rank.

    Args:
        root: folder for all unfinished evaluations of a run.
        identity: everything that results depend on. Another identity is another folder, so a
            changed checkpoint, config or list of stitches never mixes with older chunks.
        rank: of this process.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], rank: int = 0) -> None:
        text = json.dumps(identity, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.rank = rank

    def _path(self, number: int) -> Path:
        return self.folder / f"rank{self.rank}-chunk{number:05d}.pt"

    def load(self, stitches: Collection[int]) -> list[Results]:
        """All whole chunks from the first on, in order; a damaged one and what follows are left."""
        chunks: list[Results] = []
        while (path := self._path(len(chunks))).is_file():
            try:
                chunk = torch.load(path, weights_only=True)
                whole = isinstance(chunk, dict) and chunk.keys() == set(stitches)
            except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
                whole = False
            if not whole:
                print_log(
                    f"{path} is damaged: its images are evaluated again",
                    logger="current",
                    level=logging.WARNING,
                )
                break
            chunks.append(chunk)
        return chunks

    def save(self, number: int, results: Results) -> None:
        """Write a chunk, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(number)
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            torch.save(results, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            torch.load(part, weights_only=True)
        except pickle.UnpicklingError as error:
            part.unlink()
            raise UserError(
                "a metric keeps results that are no plain data (tensors, arrays, numbers, text), "
                f"so they cannot be saved as it goes: set chunk=0 ({str(error).splitlines()[0]})"
            ) from None
        os.replace(part, path)

    def remove(self) -> None:
        """Forget the evaluation, once its report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def sha256_of(path: str | Path | None) -> str:
    """Hash of a file's content; empty for no file."""
    if not path or not Path(path).is_file():
        return ""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint_of_model(model: nn.Module) -> str:
    """Hash of all weights and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            content = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(content.numpy().data)
    return digest.hexdigest()


def fingerprint_of_data(dataset: Any) -> str:
    """Hash of the images and labels of a dataset: names, sizes and dates of local files."""
    digest = hashlib.sha256(str(len(dataset)).encode())
    if hasattr(dataset, "get_data_info"):
        for index in range(len(dataset)):
            for name, value in sorted(dataset.get_data_info(index).items()):
                if name.endswith("_path") and isinstance(value, str):
                    digest.update(f"{name} {value} {_stat(value)}".encode())
    return digest.hexdigest()


def _stat(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # on a remote storage
        return None
    return found.st_size, found.st_mtime_ns
