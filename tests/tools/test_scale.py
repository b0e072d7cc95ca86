"""The cost model behind docs/scale.md."""

import re

import pytest
import torch

from mmsn.models import StitchedViT
from tests.tiny import tiny_anchor


@pytest.fixture
def scale(tool):
    return tool("scale")


@pytest.mark.slow
def test_two_published_rows_predict_the_others(scale):
    nets = scale.networks()
    rate, fixed = scale.fit(nets)
    errors = {}
    for name, net in nets.items():
        macs = scale.train_macs(net, (512, 512))
        for images, told in zip(scale.IMAGES, scale.PUBLISHED[name], strict=True):
            errors[name, images] = scale.hours(macs, images, rate, fixed) / told - 1
    first = scale.IMAGES[0]
    assert errors["S", first] == pytest.approx(0, abs=1e-9)  # these two fix the constants
    assert errors["L", first] == pytest.approx(0, abs=1e-9)
    assert max(map(abs, errors.values())) < 0.16
    # All parameters of the published S+L, less its 24 and 12 tables of relative positions.
    params = sum(p.numel() for p in nets["S+L"].parameters())
    assert params == pytest.approx(338_988_280, rel=0.01)


def test_an_image_takes_its_share_of_time(scale):
    assert scale.hours(0, 3600, 1e12, 2) == 2
    assert scale.hours(1e12, 3600, 1e12, 0) == 3  # forward and backward


def test_macs_that_stitches_share_are_counted_once(tool):
    tool("benchmark_speed")
    import _speed_inference

    backbone = StitchedViT(
        [tiny_anchor(16, 4), tiny_anchor(24, 8)], img_size=32, out_indices=(1, 3, 5, 7), rank=2
    )
    size = (32, 48)
    macs = backbone.stitch_macs(size)
    for stitch in backbone.space.ids:
        alone = _speed_inference.executed_macs(backbone, backbone.trie([stitch]), size)
        assert alone == macs[stitch]
    anchors = _speed_inference.executed_macs(backbone, backbone.trie([0, 1]), size)
    assert anchors == macs[0] + macs[1]
    every = _speed_inference.executed_macs(backbone, backbone.trie(backbone.space.ids), size)
    assert max(macs.values()) < every < sum(macs.values()) / 1.5


def test_a_block_keeps_what_autograd_keeps(scale, tool):
    """Twice the tokens, twice the memory: attention is fused."""
    import _speed_training

    linear = torch.nn.Linear(4, 3)
    x = torch.randn(5, 4, requires_grad=True)
    with _speed_training.kept(linear) as storages:
        linear(x)
    assert sum(storages.values()) == x.nbytes
    assert scale.block_bytes_per_token("S+L") == pytest.approx(18 * 4 * 1024, rel=0.1)


@pytest.mark.slow
def test_the_tables_are_printed(scale, capsys):
    scale.main(["--devices", "4"])
    printed = capsys.readouterr().out
    assert "h on 4 GPUs" in printed
    sums = re.findall(
        r"\| (\S+) \| (512|1024) \| \d+ \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|\n", printed
    )
    assert len(sums) == 4
    for _, _, *parts, total in sums:
        assert sum(map(float, parts)) == pytest.approx(float(total), abs=0.2)
