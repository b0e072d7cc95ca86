"""Encoding of images, and folders that remember how they were filled."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from mmsn.datasets.files import claim_folder, encode
from mmsn.errors import UserError


def decode(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 7, 3), np.uint8), ((5, 7), np.uint8), ((5, 7), np.uint16)]
)
def test_png_is_exact(shape, dtype):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    assert np.array_equal(decode(encode(array, ".png")), array)


def test_jpeg_keeps_the_size_and_nearly_the_colors():
    array = np.zeros((16, 24, 3), np.uint8)
    array[:, :8], array[:, 8:16, 0], array[:, 16:, 2] = 200, 255, 255
    found = decode(encode(array, ".jpg"))
    assert found.shape == array.shape
    # No color is averaged over pixels: a block of 8 x 8 pixels has one, to the rounding.
    assert np.abs(found.astype(int) - array).max() <= 3


def test_the_same_array_gives_the_same_bytes():
    array = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    for suffix in (".png", ".jpg"):
        assert encode(array, suffix) == encode(array.copy(), suffix)


def test_another_suffix_is_refused():
    with pytest.raises(UserError, match=r"image suffix is '\.bmp'; give one of \.png, \.jpg"):
        encode(np.zeros((2, 2), np.uint8), ".bmp")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b"[" * 100_000])
def test_a_damaged_record_of_a_folder_is_named(content, tmp_path):
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(UserError, match=r"recipe\.json does not say how its folder was filled \("):
        claim_folder(tmp_path, {"seed": 0})
    assert (tmp_path / "recipe.json").read_bytes() == content


def test_a_folder_continues_with_its_own_recipe_only(tmp_path):
    root = tmp_path / "new" / "folder"
    claim_folder(root, {"size": (4, 6), "seed": 0})
    written = (root / "recipe.json").read_bytes()
    assert json.loads(written) == {"size": [4, 6], "seed": 0}
    claim_folder(root, {"seed": 0, "size": [4, 6]})  # JSON has lists for tuples, and no order
    with pytest.raises(UserError, match=r"holds seed=0, asked is seed=1; remove it or name"):
        claim_folder(root, {"size": (4, 6), "seed": 1})
    with pytest.raises(UserError, match="holds seed=0, extra=None, asked is seed=None, extra=2"):
        claim_folder(root, {"size": (4, 6), "extra": 2})
    assert (root / "recipe.json").read_bytes() == written
