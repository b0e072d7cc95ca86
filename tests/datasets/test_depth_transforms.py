"""What mmseg's transforms do to depth, and that ours do what theirs do not."""

import random

import cv2
import numpy as np
import pytest
from mmseg.models import SegDataPreProcessor
from mmseg.registry import TRANSFORMS

from mmsn.datasets import DivideDepthByZoom, FixedCrop, GammaBrightnessColor, VerticalCutDepth
from mmsn.errors import UserError

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def results():
    """An image, labels and depth in which every value tells its pixel; a corner has no depth."""
    rng = np.random.default_rng(0)
    depth = 1 + np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH) / 1000
    depth[:6, :6] = 0
    return dict(
        img=rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        gt_seg_map=rng.integers(0, 40, (HEIGHT, WIDTH), np.uint8),
        gt_depth_map=depth,
        seg_fields=["gt_seg_map", "gt_depth_map"],
        img_shape=(HEIGHT, WIDTH),
    )


def apply(results, transform, seed=0, **settings):
    np.random.seed(seed)  # noqa: NPY002  # what transforms draw from
    copied = {k: v.copy() if hasattr(v, "copy") else v for k, v in results.items()}
    return TRANSFORMS.build(dict(type=transform, **settings)).transform(copied)


class TestMmsegs:
    def test_resizes_take_the_nearest_pixel_and_keep_meters(self, results):
        for settings in (dict(scale=(100, 30)), dict(scale=(96, 96), keep_ratio=True)):
            found = apply(results, "Resize", **settings)["gt_depth_map"]
            size = (found.shape[1], found.shape[0])
            expected = cv2.resize(results["gt_depth_map"], size, interpolation=cv2.INTER_NEAREST)
            assert np.array_equal(found, expected)
        zoomed = apply(results, "RandomResize", scale=(64, 48), ratio_range=(2.0, 2.0))
        assert np.array_equal(zoomed["gt_depth_map"][::2, ::2], results["gt_depth_map"])

    def test_flip_and_crop_move_depth_with_the_image(self, results):
        flipped = apply(results, "RandomFlip", prob=1.0)
        assert np.array_equal(flipped["img"], results["img"][:, ::-1])
        assert np.array_equal(flipped["gt_depth_map"], results["gt_depth_map"][:, ::-1])
        cropped = apply(results, "RandomCrop", crop_size=(20, 30), seed=3)
        top, left = np.argwhere(results["gt_depth_map"] == cropped["gt_depth_map"][0, 0])[0]
        box = np.s_[top : top + 20, left : left + 30]
        for key in ("img", "gt_seg_map", "gt_depth_map"):
            assert np.array_equal(cropped[key], results[key][box])

    def test_packing_keeps_meters(self, results):
        for flip in (0.0, 1.0):
            flipped = apply(results, "RandomFlip", prob=flip)
            packed = apply(flipped, "PackSegInputs")["data_samples"].gt_depth_map.data
            assert packed.shape == (1, HEIGHT, WIDTH)
            assert np.array_equal(packed[0].numpy(), flipped["gt_depth_map"])

    def test_rotation_invents_255_meters(self, results):
        found = apply(results, "RandomRotate", prob=1.0, degree=(2.5, 2.5))["gt_depth_map"]
        assert (found == 255).sum() > 50

    def test_depth_mix_wraps_millimeters_around(self, results):
        random.seed(4)  # it does not draw from NumPy
        meters = results | dict(depth_rescale_factor=1e-3)
        found = apply(meters, "RandomDepthMix", prob=1.0)["img"]
        changed = np.argwhere((found != results["img"]).any(axis=2))[:, 1]
        strip = found[:, changed.min() : changed.max() + 1, 0].astype(int)
        true = results["gt_depth_map"][:, changed.min() : changed.max() + 1]
        nearer, farther = true[10, 0], true[40, 0]
        assert farther > nearer + 1
        millimeters = np.rint(true * 1000).astype(int)
        assert np.abs(strip - millimeters % 256).max() in (1, 255)  # rounding

    def test_a_small_image_is_padded_with_255_meters(self, results):
        """So the configs never let one become smaller than its crop."""
        packed = apply(results, "PackSegInputs")
        batch = dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]])
        done = SegDataPreProcessor(size=(HEIGHT, WIDTH + 1))(batch, training=True)
        assert (done["data_samples"][0].gt_depth_map.data[..., -1] == 255).all()


class TestRotateWithDepth:
    def test_borders_are_invalid_and_nothing_is_mixed(self, results):
        settings = dict(prob=1.0, degree=(2.5, 2.5))
        ours = apply(results, "mmsn.RotateWithDepth", **settings)
        theirs = apply(results, "RandomRotate", **settings)
        outside = theirs["gt_depth_map"] == 255
        assert (ours["gt_depth_map"][outside] == 0).all()
        for key in ("img", "gt_seg_map"):
            assert np.array_equal(ours[key], theirs[key])
        inside = ours["gt_depth_map"][~outside]
        assert np.array_equal(inside, theirs["gt_depth_map"][~outside])
        assert set(inside) <= set(results["gt_depth_map"].ravel())
        assert (ours["gt_seg_map"][outside] == 255).all()

    def test_probability_and_range(self, results):
        assert np.array_equal(
            apply(results, "mmsn.RotateWithDepth", prob=0.0, degree=2.5)["img"], results["img"]
        )
        degrees = TRANSFORMS.build(dict(type="mmsn.RotateWithDepth", prob=1.0, degree=2.5)).degree
        assert degrees == (-2.5, 2.5)


class TestFixedCrop:
    def test_the_box(self, results):
        found = apply(results, "mmsn.FixedCrop", rows=(4, 44), columns=(2, 60))
        for key in ("img", "gt_seg_map", "gt_depth_map"):
            assert np.array_equal(found[key], results[key][4:44, 2:60])
        assert found["img_shape"] == (40, 58)

    def test_unusable_boxes(self, results):
        with pytest.raises(UserError, match=r"rows is \(5, 5\); give"):
            FixedCrop(rows=(5, 5), columns=(0, 3))
        with pytest.raises(UserError, match=r"\(45, 472\) .* do not fit in an image of 48x64"):
            apply(results, "mmsn.FixedCrop", rows=(45, 472), columns=(43, 608))


class TestDivideDepthByZoom:
    def test_twice_as_large_is_half_as_far(self, results):
        zoomed = apply(results, "Resize", scale=(128, 96))
        found = apply(zoomed, "mmsn.DivideDepthByZoom", full_size=(WIDTH, HEIGHT))
        assert np.allclose(found["gt_depth_map"][::2, ::2], results["gt_depth_map"] / 2)
        assert found["gt_depth_map"].dtype == np.float32
        assert (found["gt_depth_map"][:12, :12] == 0).all()  # invalid stays invalid

    def test_the_size_of_the_file_does_not_matter(self, results):
        small = apply(results, "Resize", scale=(32, 24))
        found = apply(small, "mmsn.DivideDepthByZoom", full_size=(32, 24))
        assert np.array_equal(found["gt_depth_map"], small["gt_depth_map"])

    def test_unusable_size(self):
        with pytest.raises(UserError, match=r"full_size is \(0, 4\)"):
            DivideDepthByZoom((0, 4))


class TestVerticalCutDepth:
    def test_a_strip_shows_depth(self, results):
        results["gt_depth_map"][7, :] = np.nan
        found = apply(results, "mmsn.VerticalCutDepth", prob=1.0, max_depth=4.0)
        changed = (found["img"] != results["img"]).any(axis=(0, 2))
        columns = np.flatnonzero(changed)
        assert 1 <= len(columns) == columns[-1] - columns[0] + 1  # one strip
        strip = found["img"][:, changed]
        gray = np.nan_to_num(results["gt_depth_map"][:, changed]) / 4 * 255
        assert gray.max() > 255 > strip.max() - 1  # what is farther than 4 m is white
        assert np.abs(strip - np.minimum(gray, 255)[..., None]).max() < 1
        assert (strip[7] == 0).all()
        assert np.array_equal(found["gt_depth_map"], results["gt_depth_map"], equal_nan=True)

    def test_how_often_and_how_wide(self, results):
        shares = [
            (apply(results, "mmsn.VerticalCutDepth", seed=s)["img"] != results["img"])
            .any(axis=(0, 2))
            .mean()
            for s in range(200)
        ]
        assert 30 <= np.count_nonzero(shares) <= 70  # a quarter of 200
        assert max(shares) <= 0.75

    def test_unusable_settings(self):
        with pytest.raises(UserError, match=r"prob, share, max_depth are 2, 0\.75, 10\.0"):
            VerticalCutDepth(prob=2)


class TestGammaBrightnessColor:
    def test_the_formula(self, results):
        settings = dict(gamma=(0.9, 0.9), brightness=(1.2, 1.2), color=(0.95, 0.95))
        found = apply(results, "mmsn.GammaBrightnessColor", prob=1.0, **settings)["img"]
        expected = 255 * (results["img"] / 255.0) ** 0.9 * 1.2 * 0.95
        assert np.abs(found - expected.clip(0, 255)).max() <= 0.5 + 1e-6
        assert found.dtype == np.uint8

    def test_channels_differ_and_a_mild_gamma_stays_mild(self, results):
        results["img"][:] = 128
        found = apply(results, "mmsn.GammaBrightnessColor", prob=1.0, brightness=(1, 1))["img"]
        assert len(set(found[0, 0])) == 3
        assert np.array_equal(found, np.broadcast_to(found[0, 0], found.shape))
        gammas = [
            apply(results, "mmsn.GammaBrightnessColor", prob=1.0, brightness=(1, 1), seed=s)["img"]
            for s in range(50)
        ]
        # at most 10 % by the gain and 7 % by the gamma; on values up to 255 it would be 1.7 times
        assert max(g.max() for g in gammas) <= 128 * 1.1 * 1.072 + 1

    def test_unusable_ranges(self):
        with pytest.raises(UserError, match=r"gamma is \(1\.1, 0\.9\); give 0 < lowest <= "):
            GammaBrightnessColor(gamma=(1.1, 0.9))
        with pytest.raises(UserError, match="prob is -1; give"):
            GammaBrightnessColor(prob=-1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("RotateWithDepth", dict(prob=0.5, degree=2.5)),
        ("VerticalCutDepth", dict(prob=0.5)),
        ("GammaBrightnessColor", dict(prob=0.5)),
    ],
)
def test_numpys_seed_rules_what_is_drawn(results, name, settings):
    images = [apply(results, f"mmsn.{name}", seed=s, **settings)["img"] for s in (1, 2, 3, 1, 2, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(images[:3], images[3:], strict=True))
    assert any(not np.array_equal(a, images[0]) for a in images)
