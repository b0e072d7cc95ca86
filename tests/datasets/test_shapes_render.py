"""A rendered scene: image, labels, and cues of the difficulty asked for."""

import numpy as np
import pytest

from mmsn.datasets import Scene
from mmsn.datasets.shapes_render import CLASSES, NUM_GROUNDS, render
from mmsn.errors import UserError


def test_render_gives_image_and_labels():
    image, labels = render(np.random.default_rng(0), 96)
    assert image.shape == (96, 96, 3)
    assert image.dtype == np.uint8
    assert labels.shape == (96, 96)
    assert labels.dtype == np.uint8
    assert labels.max() < len(CLASSES)
    assert image.std() > 20  # neither blank nor washed out


def test_other_sizes():
    image, labels = render(np.random.default_rng(3), 160)
    assert image.shape == (160, 160, 3)
    assert labels.shape == (160, 160)
    with pytest.raises(UserError, match="size is 8; give at least 32"):
        render(np.random.default_rng(3), 8)


def test_every_class_occurs_and_no_class_takes_all():
    counts = np.zeros(len(CLASSES))
    for i in range(60):
        counts += np.bincount(render(np.random.default_rng(i), 96)[1].ravel(), minlength=12)
    share = counts / counts.sum()
    assert share.min() > 0.005
    assert share[:NUM_GROUNDS].max() < 0.45
    assert 0.2 < share[NUM_GROUNDS:].sum() < 0.6


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"difficulty": 1.5}, "difficulty is 1.5"),
        ({"objects": (3, 2)}, r"objects is \(3, 2\)"),
        ({"radius": (2, 9)}, r"radius is \(2, 9\)"),
    ],
)
def test_scene_refuses(kwargs, message):
    with pytest.raises(UserError, match=message):
        Scene(**kwargs)


def test_difficulty_decides_how_much_color_tells():
    def spread(difficulty: float) -> float:
        """Circular spread of the hue of meadows: 0 always the same, 1 any."""
        hues = []
        for i in range(40):
            scene = Scene(difficulty=difficulty, objects=(1, 1), noise=0)
            image, labels = render(np.random.default_rng(i), 64, scene)
            if (labels == 0).sum() > 200:
                r, g, b = image[labels == 0].mean(0)
                hues.append(np.arctan2(np.sqrt(3) * (g - b), 2 * r - g - b))
        return 1 - abs(np.exp(1j * np.array(hues)).mean())

    assert spread(0) < 0.1 < 0.5 < spread(1)
