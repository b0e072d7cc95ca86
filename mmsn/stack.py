"""What of OpenMMLab is installed, and what is wrong with it, in one line.

Both stacks are known: the original packages and the onedl forks. Nothing of them is imported, so
this works where they cannot be. What makes a sound stack work is ``mmsn.compat``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.version import Version

__all__ = ["StackProblem", "installed_versions", "package_directory", "stack_problem"]


class StackProblem(ImportError):
    """The installed OpenMMLab packages cannot work; the message is one line and ends in the fix."""


@dataclass(frozen=True)
class _Piece:
    """One import name of the stack and the distributions that own it, with their version ranges.

    ``ranges`` maps a distribution to (lowest supported version, first unsupported version).
    """

    module: str
    ranges: Mapping[str, tuple[str, str]]


# Pieces in the order a user should fix them; in each, the original distribution comes first.
_STACK = (
    _Piece(
        "mmengine",
        {
            "mmengine": ("0.10.4", "1.0"),
            "mmengine-lite": ("0.10.4", "1.0"),
            "onedl-mmengine": ("0.10.8", "1.0"),
        },
    ),
    _Piece(
        "mmcv",
        {
            "mmcv": ("2.0.1", "3.0"),
            "mmcv-lite": ("2.0.1", "3.0"),
            "mmcv-full": ("2.0.1", "3.0"),  # 1.x only, which is never supported
            "onedl-mmcv": ("2.3.0", "3.0"),
        },
    ),
    _Piece(
        "mmseg",
        {
            "mmsegmentation": ("1.2.2", "1.3"),
            # 1.3 imports mmcv.ops unguarded, 1.4 does not
            "onedl-mmsegmentation": ("1.4.0", "2.0"),
        },
    ),
)

_FORKS = "onedl-mmengine onedl-mmcv onedl-mmsegmentation ftfy regex"
_ORIGINALS = "mmengine==0.10.7 mmcv-lite==2.1.0 mmsegmentation==1.2.2 ftfy regex"


def installed_versions() -> dict[str, str]:
    """Versions of the stack's installed distributions, by distribution name.

    A package that is importable without metadata (a source tree on ``PYTHONPATH``) counts as the
    original distribution, with the version that its ``version.py`` states. The forks read their
    own version from metadata, so they cannot be imported without it.
    """
    found: dict[str, str] = {}
    for piece in _STACK:
        for dist in piece.ranges:
            try:
                found[dist] = metadata.version(dist)
            except metadata.PackageNotFoundError:
                continue
        if not found.keys() & piece.ranges.keys():
            version = _version_in_source(piece.module)
            if version is not None:
                found[next(iter(piece.ranges))] = version
    return found


def _version_in_source(module: str) -> str | None:
    directory = package_directory(module)
    if directory is None or not (directory / "version.py").is_file():
        return None
    text = (directory / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return match.group(1) if match else None


def package_directory(module: str) -> Path | None:
    """The folder of a top-level package, without importing it."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def stack_problem(installed: Mapping[str, str]) -> str | None:
    """One line that names the first thing wrong with ``installed`` and its fix, or None.

    ``installed`` maps distribution names to versions, as :func:`installed_versions` gives them.
    """
    only_originals = installed and not any(dist.startswith("onedl-") for dist in installed)
    fix = f"pip install {_ORIGINALS if only_originals else _FORKS}"
    present = {piece.module: [d for d in piece.ranges if d in installed] for piece in _STACK}

    for piece in _STACK:
        dists = present[piece.module]
        if len(dists) > 1:
            versions = " and ".join(f"{dist} {installed[dist]}" for dist in dists)
            return (
                f"{versions} are both installed and overwrite each other's folder "
                f'"{piece.module}"; keep one: pip uninstall -y {" ".join(dists)} && {fix}'
            )
    missing = [piece for piece in _STACK if not present[piece.module]]
    if missing:
        names = ", ".join(f"{p.module} ({' or '.join(_advised(p))})" for p in missing)
        return f"mmsn needs {names}, not installed here; fix: {fix}"
    for piece in _STACK:
        dist = present[piece.module][0]
        lowest, first_unsupported = piece.ranges[dist]
        version = Version(installed[dist])
        if not Version(lowest) <= version < Version(first_unsupported):
            age = "old" if version < Version(lowest) else "new"
            return (
                f"{dist} {version} is too {age} for mmsn, which needs "
                f">={lowest},<{first_unsupported}; fix: {fix}"
            )
    mmcv = present["mmcv"][0]
    if "mmsegmentation" in installed and Version(installed[mmcv]) >= Version("2.2.0"):
        return (
            f"mmsegmentation {installed['mmsegmentation']} refuses {mmcv} {installed[mmcv]}: it "
            f"asserts mmcv<2.2.0; fix: pip uninstall -y {mmcv} && pip install mmcv-lite==2.1.0"
        )
    return None


def _advised(piece: _Piece) -> list[str]:
    names = list(piece.ranges)
    return [names[-1], "mmcv-lite" if piece.module == "mmcv" else names[0]]
