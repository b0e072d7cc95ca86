"""What all tests share."""

import pytest
import torch

import mmsn  # noqa: F401  first of all: it prepares the installed OpenMMLab packages

torch.set_num_threads(1)  # the networks here are too small for more to help


@pytest.fixture(autouse=True)
def reproducible():
    """Each test draws the same random numbers, whichever tests run before it."""
    torch.manual_seed(0)
