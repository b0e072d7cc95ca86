"""Settings and anchors that do not fit together are refused; what fits is given back."""

import pytest

from mmsn.errors import UserError
from mmsn.models import Anchor
from mmsn.models.anchor_checks import (
    check_image_size,
    check_positions,
    check_specs,
    check_together,
)
from tests.tiny import tiny_anchor


def anchors(*options):
    return [Anchor(img_size=(32, 32), **tiny_anchor(*each)) for each in options]


def test_an_image_size_is_a_side_or_both():
    assert check_image_size(64) == (64, 64)
    assert check_image_size([48, 64]) == (48, 64)


@pytest.mark.parametrize("size", [0, -16, (64, 64, 3), (64, 0), (64.0, 64), ()])
def test_other_image_sizes_are_refused(size):
    with pytest.raises(UserError, match=r"img_size .* is not allowed: give a side or \(height"):
        check_image_size(size)


def test_positions_rise_and_lie_inside():
    assert check_positions("levels", [0, 2, 3], 4) == (0, 2, 3)
    for wrong in ((), (2, 1), (1, 1), (-1, 0), (0, 4)):
        with pytest.raises(
            UserError, match=r"levels .* is not allowed: give rising numbers in 0..3"
        ):
            check_positions("levels", wrong, 4)


def test_specs_are_dicts_that_name_a_model():
    check_specs([tiny_anchor(16, 2)])
    with pytest.raises(UserError, match="anchors is empty"):
        check_specs([])
    for wrong in (
        "deit",
        {"depth": 2},
        tiny_anchor(16, 2, img_size=32),
        tiny_anchor(16, 2, with_cp=True),
    ):
        with pytest.raises(UserError, match="img_size and with_cp to the backbone"):
            check_specs([tiny_anchor(16, 2), wrong])


def test_anchors_that_fit_pass():
    check_together(anchors((16, 2), (16, 2), (24, 4)))  # equal ones, too


def test_the_first_pair_in_the_wrong_order_is_named():
    with pytest.raises(
        UserError, match=r"\(0\.0\d+ M param.* stands before .* smallest to largest"
    ):
        check_together(anchors((16, 2), (24, 4), (24, 2)))


def test_tokens_of_other_layouts_cannot_be_exchanged():
    small, large = (
        anchors((16, 2))[0],
        Anchor(img_size=(32, 32), **tiny_anchor(24, 2, patch_size=8)),
    )
    with pytest.raises(UserError, match=r"patch_size 16x16.*patch_size 8x8.* cannot exchange"):
        check_together([small, large])
