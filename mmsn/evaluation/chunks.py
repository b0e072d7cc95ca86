"""Results of a long evaluation on disk, a chunk of images at a time.

A run that is killed at any moment continues after its last whole chunk and ends with the numbers
of an undisturbed one: what is kept are the metrics' own results per image, not their averages.
Files are written whole or not at all, and are read as data.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

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

    def load(self) -> list[Results]:
        """All whole chunks from the first on, in order."""
        chunks: list[Results] = []
        while (path := self._path(len(chunks))).is_file():
            chunks.append(torch.load(path, weights_only=True))
        return chunks

    def save(self, number: int, results: Results) -> None:
        """Write a chunk, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(number)
        part = path.with_suffix(".part")
        torch.save(results, part)
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
