"""No image of NYUv2 is held out while a neighbor by number is trained on."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"


def test_held_out_images_have_no_neighbor_in_training():
    fit, held_out = (
        {int(number) for number in (FOLDER / f"nyuv2_{name}.txt").read_text().split()}
        for name in ("fit", "held-out")
    )
    assert (len(fit), len(held_out)) == (651, 144)
    assert not fit & held_out
    assert not {number + step for number in held_out for step in (-1, 1)} & fit
