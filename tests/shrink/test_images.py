"""Unlabeled images: which files, and what is read from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmsn import shrink
from mmsn.errors import MissingFile, UserError
from mmsn.shrink.images import LabeledImages
from tests.shrink.tiny import SIZE, unlabeled


def test_images_are_a_function_of_seed_and_number(folder):
    images = unlabeled(folder)
    forward = [images[n] for n in (0, 5, 30)]
    again = unlabeled(folder)
    backward = [again[n] for n in (30, 5, 0)]
    assert all(map(torch.equal, backward, forward[::-1]))
    assert not torch.equal(images[0], unlabeled(folder, seed=1)[0])
    assert forward[0].shape == (3, *SIZE)


def test_an_epoch_shows_every_image_once(folder):
    images = unlabeled(folder)
    for epoch in range(2):
        seen = []
        for n in range(12 * epoch, 12 * epoch + 12):
            images[n]
            seen.append(int(images._order[n % 12]))
        assert sorted(seen) == list(range(12))


def test_images_without_a_seed_are_read_as_they_are(folder):
    files = shrink.find_images([folder])
    plain = shrink.UnlabeledImages(files, (60, 80), [0.5] * 3, [0.25] * 3)
    expected = np.asarray(Image.open(files[3]).convert("RGB")) / 255
    expected = torch.tensor((expected - 0.5) / 0.25, dtype=torch.float32).permute(2, 0, 1)
    torch.testing.assert_close(plain[3], expected)


def test_large_photographs_are_decoded_smaller_without_moving(tmp_path):
    """The left half is black and the right half white, at any decoding scale."""
    picture = np.zeros((960, 1280, 3), np.uint8)
    picture[:, 640:] = 255
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    image = shrink.UnlabeledImages([tmp_path / "a.jpg"], (60, 80), [0] * 3, [1] * 3)[0]
    assert image[:, :, :38].max() < 0.05
    assert image[:, :, 42:].min() > 0.95


def test_sources_are_folders_and_lists(folder, tmp_path):
    files = shrink.find_images([folder])
    assert len(files) == 12
    listed = tmp_path / "list.txt"
    listed.write_text("images/b/0.png\n\nimages/a/1.jpg\n")
    assert shrink.find_images([listed]) == [folder / "b" / "0.png", folder / "a" / "1.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty' holds no image"):
        shrink.find_images([folder, tmp_path / "empty"])
    listed.write_text("images/b/0.png\nimages/nothing.jpg\n")
    with pytest.raises(MissingFile, match=r"lists 1 images that do not exist.*nothing\.jpg"):
        shrink.find_images([listed])
    with pytest.raises(MissingFile, match="absent"):
        shrink.find_images([tmp_path / "absent"])
    listed.write_bytes(b"images/b/0.png\n\xff")
    with pytest.raises(UserError, match=r"list\.txt' is not a list of paths \(.*0xff"):
        shrink.find_images([listed])
    listed.write_text("x" * 5000)
    with pytest.raises(FileNotFoundError, match="lists 1 images that do not exist"):
        shrink.find_images([listed])


def test_a_broken_image_is_named(folder):
    (folder / "broken.jpg").write_bytes(b"no image")
    images = shrink.UnlabeledImages([folder / "broken.jpg"], SIZE, [0.5] * 3, [0.25] * 3)
    with pytest.raises(UserError, match=r"broken\.jpg' cannot be read"):
        images[0]


def test_held_out_images_are_no_training_images():
    files = [Path(str(n)) for n in range(10)]
    train, held_out = shrink.held_out_split(files, 3, seed=0)
    assert sorted(train + held_out) == sorted(files)
    assert len(held_out) == 3
    assert shrink.held_out_split(files, 3, seed=0) == (train, held_out)
    with pytest.raises(UserError, match="10 held-out images of 10"):
        shrink.held_out_split(files, 10, seed=0)


def test_labels_are_places_of_folders_whatever_the_order(folder):
    files = shrink.find_images([folder])
    options = ((16, 16), [0.5] * 3, [0.25] * 3)
    plain = LabeledImages(files, 2, *options)
    assert [plain[n][1] for n in range(12)] == [int(f.parent.name == "b") for f in files]
    images = {image.mean().item(): label for image, label in (plain[n] for n in range(12))}
    drawn = LabeledImages(files, 2, *options, seed=0)
    unlabeled = shrink.UnlabeledImages(files, *options, seed=0)
    for n in (0, 5, 17):
        image, label = drawn[n]
        assert torch.equal(image, unlabeled[n])
        file = files[int(drawn._order[n % 12])]
        assert label == int(file.parent.name == "b")
    assert len(images) == 12


def test_folders_that_are_no_classes_are_refused(folder):
    with pytest.raises(UserError, match="2 folders, but the classifier has 3"):
        LabeledImages(shrink.find_images([folder]), 3, (16, 16), [0.5] * 3, [0.25] * 3)
