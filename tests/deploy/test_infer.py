"""Painting images, folders and videos."""

import signal

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from mmseg.apis import inference_model, init_model

from mmsn.deploy import Predictor, infer
from mmsn.deploy.infer import find_inputs, paint, paint_file
from mmsn.errors import UserError
from tests.deploy.tiny import tiny_config, tiny_model
from tests.models.dense_models import DEPTH_MODEL, MULTI_TASK_MODEL


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def picture(seed, size=(40, 48)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def test_colors_lie_over_the_image(model):
    image = picture(0)
    labels = inference_model(model, image[..., ::-1]).pred_sem_seg.data[0].numpy()
    predictor = Predictor.of(model)
    painted = paint(predictor, image, opacity=0.25)
    for y, x in ((0, 0), (13, 40), (39, 47)):
        color = np.array(model.dataset_meta["palette"][labels[y, x]])
        assert np.abs(painted[y, x] - (0.75 * image[y, x] + 0.25 * color)).max() <= 0.5
    assert np.array_equal(paint(predictor, image, opacity=0.0), image)


@pytest.mark.parametrize("multi", [False, True], ids=["depth", "multi-task"])
def test_depth_is_painted_where_there_are_no_classes(multi):
    config = tiny_config()
    config.model = MULTI_TASK_MODEL if multi else DEPTH_MODEL
    model, image = init_model(config, device="cpu"), picture(0)
    model.dataset_meta = dict(classes=list("abcde"), palette=[[40 * i] * 3 for i in range(5)])
    found = inference_model(model, image[..., ::-1])
    painted = paint(Predictor.of(model), image, opacity=1.0)
    if multi:
        colors = np.repeat(40 * found.pred_sem_seg.data[0].numpy()[..., None], 3, -1)
    else:
        meters = found.pred_depth_map.data[0].numpy()
        colors = 255 * matplotlib.colormaps["viridis"](meters / 10)[..., :3]
        assert len(np.unique(colors)) > 3
    assert np.abs(painted - colors).max() <= 2  # steps of the color map


def test_a_video_keeps_its_frames(model, tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (48, 32)
    )
    for seed in range(4):
        writer.write(picture(seed, (32, 48)))
    writer.release()
    ticks = []
    paint_file(
        Predictor.of(model),
        tmp_path / "v.avi",
        tmp_path / "out" / "v.mp4",
        on_frame=lambda: ticks.append(1),
    )
    video = cv2.VideoCapture(str(tmp_path / "out" / "v.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 5.0
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == len(ticks) == 4
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["v.mp4"]


def test_what_cannot_be_read_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="holds no image or video"):
        find_inputs(tmp_path)
    for name in ("x.png", "x.mp4"):
        (tmp_path / name).write_text("no")
        with pytest.raises(UserError, match=f"x.{name[2:]}' is not an? (image|video) that OpenCV"):
            paint_file(Predictor.of(model), tmp_path / name, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.fixture
def words(model, tmp_path):
    """Arguments of the command for a folder of two pictures."""
    tiny_config().dump(tmp_path / "c.py")
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta)),
        tmp_path / "k.pth",
    )
    (tmp_path / "in").mkdir()
    for seed in range(2):
        cv2.imwrite(str(tmp_path / "in" / f"{seed}.png"), picture(seed)[..., ::-1])
    words = [str(tmp_path / name) for name in ("c.py", "k.pth", "in")]
    return [*words, "--out", str(tmp_path / "out"), "--device", "cpu"]


def test_the_command_line_paints_a_folder_within_a_budget_and_continues(
    tool, tmp_path, capsys, model, words
):
    words += ["--budget", "60%"]
    main = tool("infer").main
    main(words)
    out = capsys.readouterr().out
    assert "(largest that fits 60%)" in out
    assert "2 files painted, 0 were there already" in out
    (tmp_path / "out" / "1.png.png").unlink()
    before = (tmp_path / "out" / "0.png.png").stat().st_mtime_ns
    main(words)
    assert "1 files painted, 1 were there already" in capsys.readouterr().out
    assert (tmp_path / "out" / "0.png.png").stat().st_mtime_ns == before
    expected = paint(Predictor.of(model), picture(1), "60%")
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "1.png.png"))[..., ::-1], expected)
    for name in ("10.png", "zz.png"):  # one that is broken, and one after it
        cv2.imwrite(str(tmp_path / "in" / name), picture(2))
    (tmp_path / "in" / "10.png").write_text("no")
    with pytest.raises(UserError, match=r"1 files were skipped: .*10.png' is not an image"):
        main(words)
    assert "1 files painted, 2 were there already" in capsys.readouterr().out
    assert (tmp_path / "out" / "zz.png.png").exists()
    with pytest.raises(UserError, match="has no unit"):
        main([*words, "--budget", "60"])
    torch.save({"backbone.x": torch.ones(1)}, tmp_path / "k.pth")
    with pytest.raises(UserError, match=r"is of another network than the config .* are missing"):
        main(words)


def test_a_changed_setting_or_input_repaints(tool, tmp_path, capsys, words):
    main, out = tool("infer").main, tmp_path / "out" / "0.png.png"

    def painted(*more):
        main([*words, *more])
        return out.read_bytes(), capsys.readouterr().out

    small, _ = painted("--budget", "60%")
    large, told = painted("--budget", "100%")
    assert large != small
    assert "2 files painted (2 of them again, because what they are made of changed), 0" in told
    again, told = painted("--budget", "60G")  # another budget, the same stitch
    assert "fits 60G, which is above the most expensive stitch, " in told
    assert "0 files painted, 2 were there already" in told
    assert again == large
    cv2.imwrite(str(tmp_path / "in" / "0.png"), picture(7))
    changed, told = painted()
    assert "1 files painted (1 of them again" in told
    assert changed != large
    state = torch.load(tmp_path / "k.pth", weights_only=True)
    state["state_dict"]["decode_head.conv_seg.bias"][2] += 100  # class 2 everywhere
    torch.save(state, tmp_path / "k.pth")
    other, told = painted()
    assert "2 files painted (2 of them again" in told
    assert other != changed
    out.write_bytes(small)  # of an older run, which was killed before it could note this
    assert painted()[0] == other
    (tmp_path / "out" / "infer.jsonl").write_bytes(b'{"file": "0.png.p\xff')
    assert "2 files painted" in painted()[1]


def test_ctrl_c_ends_in_one_line_and_leaves_no_part(tool, tmp_path, words, monkeypatch, capsys):
    size = (48, 32)
    video = str(tmp_path / "in" / "v.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter.fourcc(*"MJPG"), 5.0, size)
    for seed in range(5):
        writer.write(picture(seed, size[::-1]))
    writer.release()
    words = [video if w.endswith("/in") else w for w in words]
    out, frames = tmp_path / "out", []

    def paint_until_ctrl_c(*args, **kwargs):
        frames.append(1)
        if len(frames) == 3:
            assert len(list(out.glob(".v.avi.*.mp4"))) == 1  # half a video, under another name
            signal.raise_signal(signal.SIGINT)
        return paint(*args, **kwargs)

    monkeypatch.setattr(infer, "paint", paint_until_ctrl_c)
    command = tool("infer")
    # A shell's background jobs ignore the signal, and so do the processes that they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            tool("_run_args").run(lambda: command.main(words), continues=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "stopped; run the same command again to continue"
    assert len(frames) == 3
    assert list(out.iterdir()) == []
