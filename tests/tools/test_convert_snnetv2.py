"""The converter's command line on a whole official-style segmentor."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from mmsn.errors import UserError
from tests.models.reference_rules import position_index, random_state

CONFIG = """
default_scope = "mmseg"
anchor = dict(model_name="deit3_small_patch16_224", num_heads=2, rel_pos_bias=True)
head = dict(type="SETRUPHead", in_channels=12, channels=4, num_classes=5, norm_cfg=dict(type="BN"))
model = dict(
    type="EncoderDecoder",
    backbone=dict(
        type="mmsn.StitchedViT",
        anchors=[dict(embed_dim=8, depth=2, **anchor), dict(embed_dim=12, depth=4, **anchor)],
        img_size=32,
        out_indices=(0, 1, 2, 3),
        rank=2,
    ),
    decode_head=dict(in_index=3, num_convs=1, **head),
    auxiliary_head=[dict(in_index=i, num_convs=2, **head) for i in range(3)],
)
"""


def official_segmentor(config):
    """Random official names and tensors for the backbone; heads are named alike on both sides."""
    init_default_scope("mmseg")
    model = revert_sync_batchnorm(MODELS.build(config.model))
    state = {k: v for k, v in model.state_dict().items() if "head" in k}
    inner = random_state((2, 4), (8, 12), (2, 2), (2, 2), 2, class_slot=False)
    for anchor, depth in ((0, 2), (1, 4)):
        for n in range(depth):
            name = f"anchors.{anchor}.layers.{n}.attn.relative_position_index"
            inner[name] = position_index((2, 2))
    return state | {f"backbone.{k}": v for k, v in inner.items()}


def test_a_file_converts_loads_strictly_and_reports_every_key(tool, tmp_path, capsys):
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    state = official_segmentor(Config.fromfile(file))
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, tmp_path / "official.pth")
    target = tmp_path / "ours.pth"
    arguments = [str(tmp_path / "official.pth"), str(target), "--config", str(file)]
    tool("convert_snnetv2").main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("mapped", "dropped")) for line in lines) == len(state)
    assert lines[-1].endswith("6 dropped, 3 derived")
    converted = torch.load(target, weights_only=True)["state_dict"]
    assert torch.equal(
        converted["backbone.anchors.1.rel_pos.tables.3"],
        state["backbone.anchors.1.layers.3.attn.relative_position_bias_table"],
    )


def test_an_unknown_key_and_a_file_of_code_write_nothing(tool, tmp_path):
    torch.save({"state_dict": {"backbone.surprise": torch.ones(1)}}, tmp_path / "a.pth")
    torch.save({"state_dict": print}, tmp_path / "b.pth")
    for name, reason in (("a", "backbone.surprise"), ("b", r"it asks for (builtins\.)?print")):
        target = tmp_path / f"{name}-ours.pth"
        with pytest.raises(UserError, match=reason):
            tool("convert_snnetv2").main([str(tmp_path / f"{name}.pth"), str(target)])
        assert not target.exists()
