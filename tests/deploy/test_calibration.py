"""Calibration windows: what the exported file gets for images of a folder."""

import numpy as np
import pytest
from PIL import Image

from mmsn.deploy import InferenceSpec, Predictor, calibration_windows
from mmsn.errors import UserError
from tests.deploy.test_predictor import SLIDE, model_for, picture


def fill(folder, count):
    (folder / "sub").mkdir()
    for i in range(count):
        Image.fromarray(picture(41, 57, seed=i)).save(folder / "sub" / f"{i:02}.png")


def test_windows_are_those_that_a_predictor_of_the_file_runs(tmp_path):
    fill(tmp_path, 7)
    model = model_for(SLIDE)
    found = calibration_windows(model, tmp_path, (32, 32), count=3)
    assert len(found) == 3
    seen = []
    predictor = Predictor.of(model)
    run = predictor.run
    predictor.run = lambda x: (seen.append(x.numpy()), run(x))[1]
    for number, window in enumerate(found):
        seen.clear()
        predictor(tmp_path / "sub" / f"{number * 7 // 3:02}.png")
        assert len(seen) > 2
        assert np.array_equal(window, seen[number])


def test_windows_have_the_size_of_the_file(tmp_path):
    fill(tmp_path, 1)
    for window in calibration_windows(model_for(SLIDE), tmp_path, (40, 24)):
        assert window.shape == (1, 3, 40, 24)
    whole = model_for()
    assert calibration_windows(whole, tmp_path, None)[0].shape == (1, 3, 41, 57)
    with pytest.raises(UserError, match=r"gives a window of 41x57 at test scale, but .* 32x32"):
        calibration_windows(whole, tmp_path, (32, 32))


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no")
    with pytest.raises(UserError, match="holds no images"):
        calibration_windows(model_for(), tmp_path, None)


def test_the_spec_of_the_file_decides(tmp_path):
    """Normalization, which the file carries, is applied."""
    fill(tmp_path, 1)
    model = model_for()
    spec = InferenceSpec.of(model)
    (window,) = calibration_windows(model, tmp_path, None)
    pixels = picture(41, 57).transpose(2, 0, 1)
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (spec.mean, spec.std))
    np.testing.assert_allclose(window[0], (pixels - mean) / std, rtol=1e-5)
