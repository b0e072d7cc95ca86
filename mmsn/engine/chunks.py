"""Results of a long evaluation on disk, a chunk of images at a time.

A run that is killed at any moment continues after its last whole chunk and ends with the numbers
of an undisturbed one: what is kept are the metrics' own results per image, not their averages.
Files are written whole or not at all, carry a checksum, and are read as data. A folder belongs to
one benchmark at a time (``FolderLock``).
"""

from __future__ import annotations

import hashlib
import io
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
from mmsn.files import write_bytes
from mmsn.state_dict import digest_of

# By stitch id: the results of each metric, one entry per image, as mmengine's metrics keep them.
Results = dict[int, list[list[Any]]]

_MAGIC = b"mmsn chunk 1 "  # followed by the SHA-256 of what follows, 32 bytes


class ChunkStore:
    """Numbered chunks of one evaluation by one rank.

    Args:
        root: folder for all unfinished evaluations of a run.
        identity: everything that results depend on. Another identity is another folder, so a
            changed checkpoint, config or list of stitches never mixes with older chunks.
        rank: of this process.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], rank: int = 0) -> None:
        # ``default=str``: paths and config objects only have to differ where their text does.
        text = json.dumps(identity, sort_keys=True, default=str)
        self.root = root
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.rank = rank

    def _path(self, number: int) -> Path:
        return self.folder / f"rank{self.rank}-chunk{number:05d}.pt"

    def load(self, stitches: Collection[int]) -> list[Results]:
        """All whole chunks from the first on, in order, up to the first damaged one."""
        # Only an unbroken row of chunks can be used: the loop resumes at one batch number.
        chunks: list[Results] = []
        while (path := self._path(len(chunks))).is_file():
            results = self._read(path, len(chunks))
            if results is None or results.keys() != set(stitches):
                print_log(
                    f"{path} is damaged: its images are evaluated again",
                    logger="current",
                    level=logging.WARNING,
                )
                break
            chunks.append(results)
        return chunks

    def _read(self, path: Path, number: int) -> Results | None:
        """A chunk; None unless it is, to the last bit, the one that was saved under this name."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + hashlib.sha256().digest_size
        if content[:start] != _MAGIC + hashlib.sha256(content[start:]).digest():
            return None
        try:
            chunk = torch.load(io.BytesIO(content[start:]), weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):  # of another version of torch
            return None
        # A copy under another name has the right checksum, but the wrong images.
        if (chunk["folder"], chunk["rank"], chunk["number"]) != (
            self.folder.name,
            self.rank,
            number,
        ):
            return None
        return chunk["results"]

    def save(self, number: int, results: Results) -> None:
        """Write a chunk, whole or not at all.

        Raises:
            UserError: results that cannot be read back as data.
        """
        buffer = io.BytesIO()
        chunk = dict(folder=self.folder.name, rank=self.rank, number=number, results=results)
        torch.save(chunk, buffer)
        # Checked now, not when an interrupted run wants to continue.
        try:
            torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                "a metric keeps results that are not plain data (tensors, arrays, numbers, text), "
                f"so they cannot be saved as it goes: set chunk=0 ({str(error).splitlines()[0]})"
            ) from None
        payload = buffer.getvalue()
        write_bytes(self._path(number), _MAGIC + hashlib.sha256(payload).digest() + payload)

    def others(self) -> list[Path]:
        """Folders of unfinished evaluations with another identity."""
        return [path for path in self.root.glob("*") if path.is_dir() and path != self.folder]

    def remove(self) -> None:
        """Delete all unfinished evaluations, once a report is written.

        Those of other identities are deleted, too: they belong to an older state of the checkpoint,
        the config or the data, and nothing else would ever remove them.
        """
        shutil.rmtree(self.root, ignore_errors=True)


class FolderLock:
    """Keeps a second process out of a folder for as long as this one works there.

    The lock is the operating system's and ends with its process, however that ends. Where the
    system has none (Windows), or the file system refuses, nothing is locked.

    Raises:
        UserError: the folder is in use, when the ``with`` block is entered.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".benchmark.lock"
        self._handle: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            import fcntl
        except ImportError:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Not waiting: a benchmark takes hours, and the second one should say so at once.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise UserError(
                f"{self.path.parent} is in use by another benchmark (process {owner or 'unknown'})"
                ": wait until it has finished, or choose another folder with --work-dir"
            ) from None
        except OSError:  # a file system without locks
            os.close(handle)
            return self
        # The process id, for the message that a second process shows.
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle
        return self

    def __exit__(self, *_: object) -> None:
        # The file stays: removing it could take the lock of a process that has just opened it.
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def fingerprint_of_model(model: nn.Module) -> str:
    """Hash of all weights and buffers, by name."""
    state = model.state_dict()  # may hold more than tensors
    return digest_of({k: v for k, v in state.items() if isinstance(v, torch.Tensor)})


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
