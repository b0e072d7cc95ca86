"""Depth pictures: what is drawn, by its numbers, and the command that draws it."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmseg.apis import init_model
from PIL import Image

from mmsn.errors import MissingFile, UserError
from mmsn.evaluation import DepthMetric
from mmsn.evaluation.depth_pictures import Prediction, draw_depth, predict_depth


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Draw two predictions of a small map; returns (figure, truth, valid, predictions)."""
    figures, save, path = [], Figure.savefig, tmp_path_factory.mktemp("drawn") / "x.png"

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 5, (30, 40)).astype(np.float32)
    truth[:3] = 0
    truth[3, :5] = np.nan
    valid = truth > 0
    predictions = [
        Prediction(f"stitch {i}", np.where(valid, truth, 3) * factor, dict(rmse=0.51234, d1=0.9))
        for i, factor in enumerate((1.01, 1.4))
    ]
    image = rng.integers(0, 256, (30, 40, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        draw_depth(image, truth, valid, predictions, path)
    assert Image.open(path).width > 1500
    return figures[0], truth, valid, predictions


def maps_of(figure):
    """Axes with the four pictures, row by row; color bars are inset in them."""
    return np.array([ax for ax in figure.axes if ax.images]).reshape(-1, 4)


def test_truth_and_predictions_share_a_scale_in_meters(drawn):
    figure, truth, valid, predictions = drawn
    rows = maps_of(figure)
    assert rows.shape == (2, 4)
    all_predicted = np.stack([p.meters for p in predictions])
    scale = (truth[valid].min(), np.percentile(all_predicted, 99))
    assert scale[1] > truth[valid].max() + 1  # all of both is told apart, but for a few pixels
    for row, prediction in zip(rows, predictions, strict=True):
        known, predicted = (ax.images[0] for ax in row[1:3])
        assert known.get_clim() == predicted.get_clim() == pytest.approx(scale)
        assert known.cmap.name == predicted.cmap.name == "viridis"
        assert np.array_equal(predicted.get_array(), prediction.meters, equal_nan=True)
        assert np.array_equal(np.ma.filled(known.get_array(), np.nan) > 0, valid)


def test_errors_share_a_scale_and_invalid_pixels_are_gray(drawn):
    figure, truth, valid, predictions = drawn
    limits = set()
    for row, prediction in zip(maps_of(figure), predictions, strict=True):
        error = row[3].images[0]
        found = np.ma.filled(error.get_array(), np.nan)
        assert np.allclose(found[valid], np.abs(prediction.meters - truth)[valid])
        assert np.isnan(found[~valid]).all()
        assert error.cmap.name == "inferno"
        for ax in row[[1, 3]]:
            picture = ax.images[0]
            colors = picture.to_rgba(picture.get_array())
            assert np.allclose(colors[~valid], to_rgba("0.75"))
        limits.add(error.get_clim())
    ((low, high),) = limits
    worst = [np.percentile(np.abs(p.meters - truth)[valid], 99) for p in predictions]
    assert (low, high) == (0, pytest.approx(max(worst)))


def test_titles_and_units(drawn):
    figure, *_ = drawn
    row = maps_of(figure)[1]
    titles = [ax.get_title() for ax in row]
    assert titles == ["image", "ground truth", "stitch 1", "rmse 0.5123 m, d1 0.9000"]
    bars = [ax.child_axes[0].get_ylabel() for ax in row[2:]]
    assert bars == ["depth (m)", "absolute error (m)"]


def test_an_image_without_depth_is_refused(tmp_path):
    nothing = np.zeros((4, 4))
    with pytest.raises(UserError, match=r"x\.png: the image has no valid depth"):
        draw_depth(np.zeros((4, 4, 3), np.uint8), nothing, nothing > 0, [], tmp_path / "x.png")


def test_predictions_are_those_of_each_stitch(depth_config, depth_checkpoint):
    model = init_model(depth_config, depth_checkpoint, device="cpu")
    dataset = DATASETS.build(depth_config.test_dataloader.dataset)
    metric = DepthMetric(eigen_crop=False)
    found = predict_depth(model, dataset[0], [4, 1], metric)
    assert [p.name.split(",")[0] for p in found] == ["stitch 4", "stitch 1"]
    assert not np.array_equal(found[0].meters, found[1].meters)
    truth = np.asarray(
        Image.open(Path(depth_config.test_dataloader.dataset.data_root, "depths/0.png"))
    )
    valid = truth > 0
    for stitch, prediction in zip((4, 1), found, strict=True):
        model.backbone.set_stitch(stitch)
        batch = dict(inputs=[dataset[0]["inputs"]], data_samples=[dataset[0]["data_samples"]])
        expected = model.test_step(batch)[0].pred_depth_map.data[0].detach().numpy()
        assert np.array_equal(prediction.meters, expected)
        wrong = (expected.clip(1e-3, 10) - truth / 1000)[valid]
        assert prediction.metrics["rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-5)


def test_the_command_draws_files(depth_config, depth_checkpoint, tool, tmp_path, capsys):
    draw = tool("depth_pictures")
    arguments = [depth_config.filename, depth_checkpoint, "--out", str(tmp_path / "out")]
    draw.main([*arguments, "--stitch", "anchors", "4", "--indices", "0", "2"])
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == ["0.png", "2.png"]
    assert str(files[0]) in capsys.readouterr().out
    three_rows = Image.open(files[0]).height
    draw.main([*arguments, "--budget", "100%", "--indices", "0"])
    assert three_rows > 2 * Image.open(files[0]).height


def test_the_command_refuses_in_one_line(depth_config, depth_checkpoint, tool, tmp_path, capsys):
    draw = tool("depth_pictures")
    arguments = [depth_config.filename, depth_checkpoint, "--out", str(tmp_path / "out")]
    for words, reason in (
        (["--indices", "7"], "--indices 7: give indices of the test dataset, 0 to 2"),
        (["--images", "0"], "--images: got '0'; give a whole number from 1"),
        (["--stitch", "99"], "99"),
        (["--stitch", "best"], "stitches 'best' are unknown"),
        (["--budget", "1%"], "below the cheapest stitch"),
        (["--indices", "1"], "no valid depth to draw"),
    ):
        with pytest.raises(SystemExit) as stop:
            draw.run(lambda words=words: draw.main([*arguments, *words]))
        assert stop.value.code == 2
        *_, told = capsys.readouterr().err.splitlines()
        assert told.startswith("error: ")
        assert reason in told, words
    with pytest.raises(MissingFile, match="'none' does not exist: give a local"):
        draw.main([depth_config.filename, "none"])
    plain = Config.fromfile(depth_config.filename)
    plain.test_evaluator = dict(type="IoUMetric")
    plain.dump(tmp_path / "plain.py")
    with pytest.raises(UserError, match=r"plain\.py has no mmsn\.DepthMetric in test_evaluator"):
        draw.main([str(tmp_path / "plain.py"), depth_checkpoint])


def test_images_are_spread_evenly(tool):
    choose = tool("depth_pictures").choose_images
    assert choose(654, None, 3) == [109, 327, 545]
    assert choose(3, None, 3) == choose(3, None, 4) == [0, 1, 2]
    assert choose(10, [4, 4], 1) == [4, 4]
