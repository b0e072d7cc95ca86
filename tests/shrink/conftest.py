"""Fixtures of all tests that shrink an anchor."""

import pytest

from tests.shrink.tiny import make_parent, write_images


@pytest.fixture
def parent():
    """A random parent of width 24 and four blocks."""
    return make_parent()


@pytest.fixture
def folder(tmp_path):
    """Twelve images of smooth random colors, in two folders."""
    return write_images(tmp_path / "images")
