"""The tool behind every figure of docs/performance.md: its rows run and count what they say."""

import re
import sys
import time

import pytest
import torch
from mmengine.config import Config

from mmsn.errors import UserError
from tests.models.conftest import tiny_anchor
from tests.models.dense_models import DEPTH_MODEL
from tests.tiny import tiny_segmentor, tiny_swin_backbone, tiny_upernet


@pytest.fixture
def speed(tool, tmp_path, capsys):
    """``speed(row, *words)`` is what the tool prints for a pair of depths (4, 8) under UperNet."""
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor"),
        backbone=dict(
            type="mmsn.StitchedViT",
            anchors=[tiny_anchor(16, 4), tiny_anchor(24, 8)],
            img_size=32,
            out_indices=(1, 3, 5, 7),
            rank=2,
        ),
        neck=dict(
            type="MultiLevelNeck", in_channels=[24] * 4, out_channels=8, scales=[4, 2, 1, 0.5]
        ),
        decode_head=dict(
            type="UPerHead",
            in_channels=[8] * 4,
            in_index=[0, 1, 2, 3],
            channels=8,
            num_classes=5,
        ),
        test_cfg=dict(mode="whole"),
    )
    Config(dict(model=model)).dump(tmp_path / "config.py")

    def call(row, *words, config=True):
        words = [row, *([str(tmp_path / "config.py")] if config else []), *map(str, words)]
        tool("benchmark_speed").main([*words, "--rounds", "1", "--device", "cpu"])
        return capsys.readouterr().out

    return call


def rows(printed):
    cells = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line] for line in cells if "---" not in line]


@pytest.mark.parametrize(
    ("row", "ways"),
    [
        ("blocks", ["stitch", "bare blocks"]),
        ("anchors", ["anchor", "timm"]),
        ("flops", ["all stitches"]),
        ("switch", ["set_stitch", "use_stitch"]),
        ("bf16", ["float32", "bfloat16"]),
    ],
)
def test_every_way_is_timed(speed, row, ways):
    printed = speed(row)
    assert f"1 x 32x32, CPU ({torch.backends.cpu.get_cpu_capability()})" in printed
    found = rows(printed)
    for way in ways:
        times = [float(line[1]) for line in found if line[0] == way]
        assert times
        assert all(ms > 0 for ms in times) or row == "switch"
    for other in ways[1:]:
        assert f"{ways[0]} / {other}: " in printed


def test_sharing_changes_nothing_and_names_the_states(speed):
    printed = speed("sharing", "--image-size", 32, 48)
    assert "1 x 32x48" in printed
    assert "14 stitches" in printed
    assert "largest difference 0\n" in printed


def test_both_evaluations_agree_and_their_parts_add_up(speed):
    printed = speed("evaluation", "--label-size", 97, 131, "--batch-size", 2)
    assert "areas of all stitches are equal" in printed
    parts = {line[0]: line[1:] for line in rows(printed[printed.index("by part") :])[1:]}
    assert set(parts) >= {"backbone", "head", "resize and argmax", "IoU", "rest", "sum"}
    for way in (0, 1):
        total = sum(float(ms[way]) for part, ms in parts.items() if part != "sum")
        assert total == pytest.approx(float(parts["sum"][way]), abs=0.01)
        assert all(float(parts[part][way]) > 0 for part in ("backbone", "head", "IoU"))


def test_what_heads_could_share(speed):
    printed = speed("heads")
    lines = [line for line in rows(printed) if len(line) == 4][1:]
    different = [int(line[1]) for line in lines]
    assert different == sorted(different)  # lower levels are those of more stitches
    assert different[0] < different[-1] == 14
    shares = [float(line[3].rstrip("%")) / 100 for line in lines]
    spared = float(re.search(r"can spare (\S+)% of", printed)[1]) / 100
    expected = sum(s * (1 - d / 14) for s, d in zip(shares, different, strict=True))
    assert spared == pytest.approx(expected, abs=0.003)
    assert "largest difference 0\n" in printed
    assert int(re.search(r"modules that are shared: (\d+)", printed)[1]) > 0


def test_a_quick_row_says_so(speed):
    printed = speed("evaluation", "--image-size", 48, 32, "--quick")
    assert "1 x 48x32" in printed
    assert "QUICK: one round" in printed
    assert "areas of all stitches are equal" in printed


def test_a_quick_row_halves_the_size_of_the_config(speed):
    assert "1 x 16x16" in speed("sharing", "--quick")


def test_training_several_stitches_in_a_step(speed):
    printed = speed("training", "--batch-size", 4, "--stitch", 0, 1)
    assert "stitches 0, 1;" in printed
    assert "a pass per stitch / one step: " in printed


def test_checkpointing_keeps_less(speed):
    printed = speed("checkpointing", "--batch-size", 2)
    found = re.findall(r"activations: (\S+) MB recomputed, (\S+) MB kept", printed)
    assert len(found) == 2
    assert all(float(recomputed) < float(kept) for recomputed, kept in found)


def test_what_unused_parts_cost(speed):
    printed = speed("unused", "--batch-size", 2, "--stitch", 0, 1)
    parameters, state = map(
        float, re.search(r"parameters (\S+) MB, AdamW's state (\S+) MB", printed).groups()
    )
    assert state == pytest.approx(2 * parameters, rel=0.01)
    shares = [float(x) for x in re.findall(r"MB, (\S+)% of all", printed)]
    assert len(shares) == 2
    assert all(0 < share < 100 for share in shares)


@pytest.mark.slow
def test_two_processes_reduce_the_same_gradients(speed):
    printed = speed("ddp", "--batch-size", 2, "--stitch", 0, 1)
    assert float(re.search(r"largest difference of a gradient: (\S+)", printed)[1]) < 1e-6
    every, some = map(float, re.search(r"step: (\S+) MB, against (\S+) MB", printed).groups())
    assert some < every


@pytest.mark.slow
def test_the_first_answer_about_costs(speed):
    printed = speed("costs", "--quick")
    answer, imported = (float(line[3]) for line in rows(printed)[1:])
    assert answer > 0.5 * imported > 0


def test_least_squares_agrees_with_a_pseudo_inverse(speed):
    printed = speed("least-squares", "--tokens", 600, config=False)
    assert float(re.search(r"largest difference (\S+)", printed)[1]) < 1e-3
    assert "15.9 MB of sums, against 6.8 MB of tokens" in printed


def test_memory_of_a_training_step(speed):
    found = {}
    for line in rows(speed("memory", "--batch-size", 4))[1:]:
        found[line[0], line[1]] = [float(x) for x in line[2:4]]
    assert found.keys() == {(stitch, batch) for stitch in "01" for batch in "24"}
    for stitch in "01":
        small, large = found[stitch, "2"], found[stitch, "4"]
        assert large[0] == pytest.approx(2 * small[0], rel=0.3)
        assert large[1] == small[1] > 0


def test_parts_count_time_once(tool, monkeypatch):
    tool("benchmark_speed")
    speed = sys.modules["_speed"]

    class Work:
        def outer(self):
            time.sleep(0.01)
            self.inner()

        def inner(self):
            end = time.process_time() + 0.05
            while time.process_time() < end:
                pass

    work, parts = Work(), speed.Parts("cpu")
    with parts.measure({"outer": (Work, "outer"), "inner": (work, "inner")}):
        work.outer()
    assert parts.seconds["inner"] == pytest.approx(0.05, abs=0.02)
    assert parts.seconds["outer"] < 0.02
    assert "inner" not in vars(work)
    assert "__wrapped__" not in vars(Work.outer)


def test_quartiles_and_ratios(tool):
    tool("benchmark_speed")
    speed = sys.modules["_speed"]
    assert speed.quartiles([3.0]) == (3, 3)
    assert speed.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2, 4)
    slow, fast = speed.Times([2.0, 4.0, 8.0], [1.0] * 3), speed.Times([1.0, 1.0, 2.0], [0.5] * 3)
    assert speed.ratio(slow, fast) == "4.000 (3.000 to 4.000) wall, 2.000 process"


def test_a_row_without_its_config_is_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool("benchmark_speed").parse_args(["sharing"])
    assert "sharing needs a CONFIG" in capsys.readouterr().err


SWIN = tiny_segmentor(tiny_swin_backbone(), tiny_upernet(5, (16, 32, 64, 128)))


@pytest.mark.parametrize(
    ("row", "model", "line"),
    [
        ("blocks", SWIN, "compares plain ViTs, which swin_tiny"),
        ("anchors", SWIN, "compares plain ViTs, which swin_tiny"),
        ("evaluation", DEPTH_MODEL, "measures IoU, but the model is a DepthEstimator"),
    ],
)
def test_models_that_a_row_cannot_measure_are_refused_in_one_line(tool, tmp_path, row, model, line):
    Config(dict(model=model)).dump(tmp_path / "config.py")
    with pytest.raises(UserError, match=line) as caught:
        tool("benchmark_speed").main([row, str(tmp_path / "config.py"), "--device", "cpu"])
    assert "\n" not in str(caught.value)


def test_frozen_anchors_train_less_and_hold_less(speed):
    printed = speed("frozen", "--batch-size", 2, "--stitch", 0, 1)
    trained = dict(re.findall(r"(frozen|full): (\S+) trained parameters", printed))
    frozen, full = (int(trained[name].replace(",", "")) for name in ("frozen", "full"))
    assert 0 < frozen < full
    peaks = re.findall(r"(\S+) MB frozen, (\S+) MB full", printed)
    assert len(peaks) == 2
    assert all(0 < float(less) < float(more) for less, more in peaks)
    assert printed.count("frozen / full: ") == 2
