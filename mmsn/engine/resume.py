"""Which checkpoint of a folder to continue from: the newest one that is whole.

mmengine takes the file that ``last_checkpoint`` names, whether it is there and whole or not. Here
the checksums in the file decide, and an older whole file replaces a damaged newer one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from mmsn.errors import UserError
from mmsn.state_dict import find_damage


def damage_of(path: Path) -> str | None:
    """Why a training cannot continue from this file, as far as its bytes show; None if it can."""
    # os.path, because pathlib raises for names that are too long
    if os.path.isdir(path):  # sharded by DeepSpeed; it has checks of its own
        return None
    if not os.path.isfile(path):
        return "it is not there"
    with open(path, "rb") as file:
        start = file.read(2)
    if start not in (b"", b"PK"):  # for example zeros after a power cut
        return "it is not an archive of torch.save"
    return find_damage(path)


def is_whole(path: str | Path) -> bool:
    """Whether a checkpoint is there with all of its bytes."""
    return damage_of(Path(path)) is None


def latest_checkpoint(
    work_dir: str | Path, template: str = "iter_{}.pth", folder: str | Path | None = None
) -> str | None:
    """The newest whole checkpoint of a run, or None if it has saved none; one line on each skipped.

    Every rank gets rank 0's answer.

    Args:
        work_dir: where ``last_checkpoint`` is.
        template: name of a checkpoint; ``{}`` stands for its iteration or epoch.
        folder: where checkpoints are; ``work_dir`` by default.

    Raises:
        UserError: checkpoints were saved, and none of them is whole.
    """
    # (path, fault). Rank 0 looks, and a fault is raised on every rank: if it alone raised, the
    # others would wait for it forever.
    answer: list[str | None] = [None, None]
    if is_main_process():
        try:
            answer[0] = _find(Path(work_dir), template, Path(folder or work_dir))
        except UserError as error:
            answer[1] = str(error)
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise UserError(answer[1])
    return answer[0]


def _find(work_dir: Path, template: str, folder: Path) -> str | None:
    faults: list[str] = []
    for path in _candidates(work_dir, template, folder):
        damage = damage_of(path)
        if damage is None:
            if faults:
                print_log(
                    f"{'; '.join(faults)}: continuing from {str(path)!r}, the newest whole one",
                    logger="current",
                    level=logging.WARNING,
                )
            return str(path)
        faults.append(f"checkpoint {str(path)!r} is damaged ({damage})")
    # A pointer without any file to try: checkpoints were saved here and are gone.
    pointer = work_dir / "last_checkpoint"
    if not faults and pointer.is_file():
        faults.append(f"{str(pointer)!r} is empty, and there is no checkpoint beside it")
    if faults:
        raise UserError(
            f"nothing to resume from: {'; '.join(faults)}; restore a whole checkpoint, or remove "
            f"these and {str(pointer)!r} to start again"
        )
    return None


def _candidates(work_dir: Path, template: str, folder: Path) -> Iterator[Path]:
    """Checkpoints to try, best first: the one named last, then older ones, then the rest."""
    # The template is text, not a pattern: only its ``{}`` stands for digits.
    named = _named(work_dir, folder)
    pattern = re.compile(re.escape(template).replace(r"\{\}", r"(\d+)"))
    steps = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match is not None and path != named:
            steps[path] = int(match[1])
    match = pattern.fullmatch(named.name) if named is not None else None
    last = int(match[1]) if match is not None else None
    if named is not None:
        yield named
    # Files with larger numbers than the last one are leftovers of another run in this folder.
    newer = [path for path in steps if last is not None and steps[path] > last]
    yield from sorted(steps.keys() - newer, key=lambda path: -steps[path])
    yield from sorted(newer, key=lambda path: -steps[path])


def _named(work_dir: Path, folder: Path) -> Path | None:
    """The file that ``last_checkpoint`` names, also after the folder has been moved."""
    try:
        text = (work_dir / "last_checkpoint").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if Path(text).name in ("", ".."):
        return None
    inside = folder / Path(text).name
    return inside if os.path.exists(inside) or not os.path.exists(text) else Path(text)
