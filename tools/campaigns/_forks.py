"""Subjects of campaigns in processes that are forked from one, so that a start costs no import."""

from __future__ import annotations

import gc
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _subjects import Subject

PART = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")  # of mmsn.files.whole_file
PATIENCE = 120  # seconds for what nobody kills


def load(name: str, hook: str = "mmsn.AtomicCheckpointHook") -> Subject:
    """A subject whose runs save by this hook; imports everything, once for all forks."""
    import torch

    torch.set_num_threads(1)  # a process with threads must not be forked
    from _subjects import subjects

    gc.collect()
    gc.freeze()  # else each collection in a fork copies all memory of this process
    return subjects(hook)[name]


def slow_down(seconds: float) -> None:
    """Let each write of a file take so long in this process: half for its bytes, half to sync."""
    from mmengine.fileio import LocalBackend

    sync = os.fsync

    def crawl(path: Path, data: bytes) -> int:
        with open(path, "wb") as file:
            for piece in range(8):
                file.write(data[piece * len(data) // 8 : (piece + 1) * len(data) // 8])
                file.flush()
                time.sleep(seconds / 16)
        return len(data)

    def slow_sync(handle: int) -> None:
        time.sleep(seconds / 4)  # once for the file, once for its folder
        sync(handle)

    Path.write_bytes = crawl  # type: ignore[method-assign, assignment]
    os.fsync = slow_sync  # type: ignore[assignment]
    LocalBackend.put = lambda self, data, path: crawl(path, data)  # mmengine's own hook


def start(subject: Subject, folder: Path, data: Path, slow: float, output: Path) -> list[int]:
    """Run a subject in processes of its own; returns their ids."""
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix="store") as name:
        store = Path(name.name)  # of the addresses of ranks; it is gone again here
    return [
        fork(lambda rank=rank: _run(subject, rank, folder, data, slow, store), output)
        for rank in range(subject.ranks)
    ]


def _run(subject: Subject, rank: int, folder: Path, data: Path, slow: float, store: Path) -> None:
    from _subjects import join, skip_reports

    skip_reports()
    if slow:
        slow_down(slow)
    if subject.ranks > 1:
        join(rank, subject.ranks, store)
    subject.run(folder, data)


def fork(task: Callable[[], None], output: Path) -> int:
    """Do a task in a process of its own, which prints into a file and works in its folder."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(output, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(output.parent)  # where ranks exchange results, see mmengine's collect_results
        task()
        code = 0
    except BaseException as error:  # nothing of the parent's may run in the child
        print(f"failed: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def finished(pids: list[int], seconds: float) -> int | None:
    """The largest exit code of processes that all end within this time, else None.

    Those that have ended are removed from the list.
    """
    end, code = time.monotonic() + seconds, 0
    while True:
        for pid in list(pids):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = max(code, abs(os.waitstatus_to_exitcode(status)))
                pids.remove(pid)
        if not pids:
            return code
        if time.monotonic() > end:
            return None
        time.sleep(0.02)


def parts(folder: Path) -> set[Path]:
    """Files that are being written, or were when their process was killed."""
    return {path for path in folder.rglob(".*") if PART.fullmatch(path.name)}
