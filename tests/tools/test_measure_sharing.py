"""The tool that measures what sharing beginnings saves."""

import re
import sys

from mmengine.config import Config

from tests.tiny import tiny_anchor


def test_both_ways_are_timed_and_agree(tool, tmp_path, monkeypatch, capsys):
    backbone = dict(
        type="mmsn.StitchedViT",
        anchors=[tiny_anchor(16, 4), tiny_anchor(24, 8)],
        img_size=32,
        out_indices=(3, 7),
        rank=2,
    )
    Config(dict(model=dict(backbone=backbone))).dump(tmp_path / "config.py")
    words = [str(tmp_path / "config.py"), "--image-size", "32", "48", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["measure_sharing.py", *words])
    tool("measure_sharing").main()
    printed = capsys.readouterr().out
    assert "14 stitches, 1 x 32x48" in printed
    rounds = re.findall(r"alone (\S+) s, shared (\S+) s, ratio (\S+), .* difference (\S+)", printed)
    assert [r[3] for r in rounds] == ["0", "0"]
    assert all(float(alone) > 0 and float(shared) > 0 for alone, shared, _, _ in rounds)
