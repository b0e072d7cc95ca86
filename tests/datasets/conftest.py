"""Datasets are built as a Runner does it: bare names mean mmseg's, ours begin with `mmsn.`."""

import pytest
from mmengine.registry import DefaultScope

import mmsn  # noqa: F401


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield
