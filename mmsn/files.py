"""Writing files whole or not at all, and hashing their content.

A file that is written through here has, at any moment and after any kill, either its old content
or all of its new content. Reading formats is left to those who know the format.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsn.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says when there is no more room


@contextmanager
def whole_file(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes that name if the block ends well.

    The temporary name is unique, so two processes may write the same file: the last one wins. It
    keeps the suffix, because writers choose formats by it. With ``sync``, content reaches the disk
    before the name does (``fsync``), so a power cut leaves no empty file either; that takes up to
    tens of milliseconds, so it is off for files that are written by the thousand and can be made
    again. If the block raises, the temporary file is removed and ``path`` stays as it was.

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    try:
        with _whole_file(path, sync) as part:
            yield part
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"{str(path)!r} could not be written ({error.strerror}): what was there before is "
            "untouched; make room and repeat"
        ) from error


@contextmanager
def _whole_file(path: Path, sync: bool) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        # mkstemp lets the owner alone read; a result is as public as the user's umask says.
        part.chmod(0o666 & ~_umask())
        if sync:
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
        if sync:
            _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path, name: str) -> None:
    """Remove what killed writers of ``whole_file(folder / name)`` left; ``name`` may be a glob.

    Only for folders that no other process writes to now.
    """
    pattern = Path(name)
    # mkstemp puts eight of these characters between stem and suffix
    for part in Path(folder).glob(f".{pattern.stem}.{'[a-z0-9_]' * 8}{pattern.suffix}"):
        part.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes, sync: bool = True) -> None:
    """Write a file whole or not at all."""
    with whole_file(path, sync) as part:
        part.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def sha256_of(path: str | Path | None) -> str:
    """Hash of a file's content; empty for no file."""
    if not path or not Path(path).is_file():
        return ""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)  # there is no way to read it without setting it
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets folders be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
