"""Datasets are built as a Runner does it: bare names mean mmseg's, ours begin with `mmsn.`."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from scipy.io import savemat

from mmsn.datasets.nyuv2 import CLASSES
from mmsn.datasets.nyuv2_mapping import OWN_CLASS


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


@pytest.fixture
def official(tmp_path):
    """A made-up official pair with 3 images; returns (mat, splits, images NHWC, labels NHW)."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 8, 3), np.uint8).repeat(80, 1).repeat(80, 2)
    labels = rng.integers(0, 895, (3, 48, 64)).astype(np.uint16).repeat(10, 1).repeat(10, 2)
    labels[0, 0, 0], labels[0, -1, 0] = 0, 894
    names = [f"thing {i}" for i in range(1, 895)]
    for class_id, number in enumerate(OWN_CLASS):
        names[number - 1] = CLASSES[class_id]
    mat, splits = tmp_path / "nyu.mat", tmp_path / "splits.mat"
    with h5py.File(mat, "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["labels"] = labels.transpose(0, 2, 1)
        references = np.empty((1, len(names)), h5py.ref_dtype)
        for i, name in enumerate(names):
            file[f"#refs#/{i}"] = np.array([[ord(c)] for c in name], np.uint16)
            references[0, i] = file[f"#refs#/{i}"].ref
        file.create_dataset("names", data=references, dtype=h5py.ref_dtype)
    savemat(splits, {"trainNdxs": np.array([[3], [1]]), "testNdxs": np.array([[2]])})
    return mat, splits, images, labels
