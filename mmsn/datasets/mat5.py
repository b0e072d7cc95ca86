"""Numeric arrays of a MATLAB 5 file, whatever bytes it holds.

SciPy's reader ends the process on some damaged files, so this one reads the few kinds that the
official lists of datasets need, in plain Python. Format: MathWorks, "MAT-File Format", R2023b,
chapter 1. Left out on purpose: text, cells, structures, sparse and complex arrays, which are
skipped, and MATLAB 7.3 files, which are HDF5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 26  # bytes, of a file and of what is compressed in it
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4"},
    **{6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
# mxDOUBLE_CLASS to mxUINT64_CLASS
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), start=6))
_COMPLEX = 0x0800


def read_arrays(path: str | Path) -> dict[str, NDArray]:
    """All real numeric arrays by name.

    Raises:
        OSError: a file that cannot be read.
        ValueError: a file that is not of this format, or damaged; the message is the reason.
    """
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MiB")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("it has no header of MATLAB 5")
    found = {}
    for kind, content in _elements(data[128:], order):
        if kind == _COMPRESSED:
            kind, content = next(_elements(_inflated(content), order), (0, b""))
        if kind != _MATRIX:
            raise ValueError(f"it has an element of type {kind} where an array is expected")
        name, array = _array(content, order)
        if array is not None:
            found[name] = array
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, content) of one element after the other."""
    at = 0
    while at < len(data):
        tag = data[at : at + 8]
        if len(tag) < 8:
            raise ValueError("it ends within an element")
        kind, size = struct.unpack(order + "II", tag)
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"it has a short element of {size} bytes")
            yield kind, tag[4 : 4 + size]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError("it ends within an element")
        yield kind, data[at + 8 : at + 8 + size]
        # All but compressed elements are padded to eight bytes.
        at += 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)


def _inflated(content: bytes) -> bytes:
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(content, LARGEST)
    except zlib.error as error:
        raise ValueError(f"its compressed data are damaged: {error}") from None
    if not machine.eof:
        raise ValueError("its compressed data are cut off, or too large")
    return data


def _array(content: bytes, order: str) -> tuple[str, NDArray | None]:
    """Name and values of an array, in the shape that MATLAB shows; None for other kinds."""
    parts = _elements(content, order)
    flags, shape_part, name_part = (next(parts, (0, b"")) for _ in range(3))
    if flags[0] != 6 or len(flags[1]) != 8 or shape_part[0] != 5 or len(shape_part[1]) % 4:
        raise ValueError("an array of it has no valid description")
    word = struct.unpack(order + "I", flags[1][:4])[0]
    name = name_part[1].decode("ascii", errors="replace")
    if word & 0xFF not in _CLASSES or word & _COMPLEX:
        return name, None
    kind, values = next(parts, (0, b""))
    if kind not in _NUMBERS:
        raise ValueError(f"array {name!r} has values of unknown type {kind}")
    stored = np.dtype(order + _NUMBERS[kind])  # smaller than its class where the values allow it
    shape = struct.unpack(f"{order}{len(shape_part[1]) // 4}i", shape_part[1])
    if min(shape, default=-1) < 0 or math.prod(shape) * stored.itemsize != len(values):
        raise ValueError(f"array {name!r} of shape {shape} has {len(values)} bytes")
    array = np.frombuffer(values, stored).reshape(shape, order="F")
    with np.errstate(invalid="ignore"):
        return name, array.astype(_CLASSES[word & 0xFF])
