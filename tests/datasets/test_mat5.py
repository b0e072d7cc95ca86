"""Numeric arrays of MATLAB 5 files: as SciPy reads whole ones, and a reason for damaged ones."""

import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmsn.datasets import mat5
from mmsn.datasets.mat5 import read_arrays

TYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    found = {f"of_{kind}": rng.integers(0, 100, (3, 5)).astype(kind) for kind in TYPES}
    return found | {"cube": rng.normal(size=(2, 3, 4)), "one": np.array([[7]], np.uint8)}


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_those_that_scipy_reads(packed, arrays, tmp_path):
    path = tmp_path / "x.mat"
    others = {"text": "abc", "cell": np.array([1, "a"], object), "z": np.array([[1j]])}
    savemat(path, arrays | others | {"struct": {"a": 1}}, do_compression=packed)
    expected, found = loadmat(path), read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in found.items():
        assert array.dtype == expected[name].dtype == arrays[name].dtype
        assert np.array_equal(array, expected[name])


def test_values_that_are_stored_smaller_than_their_class(tmp_path):
    """MATLAB stores doubles that are whole and small as bytes."""
    matrix = struct.pack(">IIII", 6, 8, 6, 0)  # flags: double
    matrix += struct.pack(">IIii", 5, 8, 1, 3)  # shape
    matrix += struct.pack(">I", 1 << 16 | 1) + b"x\0\0\0"  # name, in its tag
    matrix += struct.pack(">I", 3 << 16 | 2) + b"\1\2\xff\0"  # values, as uint8 in their tag
    header = b"MATLAB 5.0".ljust(124) + b"\1\0MI"
    path = tmp_path / "x.mat"
    path.write_bytes(header + struct.pack(">II", 14, len(matrix)) + matrix)
    found = read_arrays(path)["x"]
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 2, 255]] == loadmat(path)["x"].tolist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"", "no header"),
        (lambda data: b"\x89HDF" + data[4:126] + b"??" + data[128:], "no header"),
        (lambda data: data[:-3], "ends within an element"),
        (lambda data: data + b"\0\0\0", "ends within an element"),
        (lambda data: data[:128] + b"\x09" + data[129:], "type 9 where an array"),
        (lambda data: data[:136] + b"\x07" + data[137:], "no valid description"),
        (lambda data: data[:160] + b"\xff\xff\xff\xff" + data[164:], "of shape"),
        (lambda data: data[:160] + b"\xff\xff\xff\x7f" + data[164:], "of shape"),
    ],
)
def test_a_damaged_file_has_a_reason(change, reason, tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"numbers": np.arange(6.0)[None]})
    assert read_arrays(path)["numbers"].shape == (1, 6)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=reason):
        read_arrays(path)


def test_damaged_or_endless_compression_has_a_reason(tmp_path, monkeypatch):
    path = tmp_path / "x.mat"
    savemat(path, {"numbers": np.zeros((1, 5000))}, do_compression=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="compressed data are damaged"):
        read_arrays(path)
    path.write_bytes(whole)
    monkeypatch.setattr(mat5, "LARGEST", 1000)
    with pytest.raises(ValueError, match="cut off, or too large"):
        read_arrays(path)
    monkeypatch.setattr(mat5, "LARGEST", 100)
    with pytest.raises(ValueError, match="it has more than"):
        read_arrays(path)
