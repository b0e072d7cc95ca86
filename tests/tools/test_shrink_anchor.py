"""The command that makes smaller anchors."""

import json
import re

import pytest
import safetensors
import safetensors.torch
import torch

from mmsn import shrink
from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from tests.shrink.tiny import NAME, PARENT, make_parent, write_images


class Interrupt(Exception):
    pass


@pytest.fixture
def command(tool, tmp_path):
    """The command on a random parent; gives the file that it wrote."""
    parent, folder = make_parent(), write_images(tmp_path / "images")
    safetensors.torch.save_file(parent.vit.state_dict(), tmp_path / "parent.safetensors")
    options = [f"{key}={value}" for key, value in PARENT.items()]

    def call(*words, out="child.safetensors", images=(str(folder),)):
        sources = ["--images", *images] if images else []
        source = ["--checkpoint", str(tmp_path / "parent.safetensors")]
        source += ["--timm-options", *options, "--parent-size", "64", "64"]
        reading = ["--image-size", "32", "48", "--held-out", "4", "--calibration", "4", *sources]
        target = ["--out", str(tmp_path / out), "--batch-size", "2"]
        tool("shrink_anchor").main([NAME, *source, *reading, *target, *words])
        return tmp_path / out

    return call


def test_the_command_writes_an_anchor(command, capsys):
    out = command("--depth", "2", "--width", "16", "--distill-steps", "3")
    assert "12 to" not in (printed := capsys.readouterr().out)
    assert "0 to 1" in printed
    assert "from blocks [0, 2]" in printed
    with safetensors.safe_open(out, "pt") as file:
        record = json.loads(file.metadata()["shrink"])
    assert record["anchor"]["model_name"] == NAME
    assert (record["blocks"], record["distillation"]["steps"]) == ([0, 2], 3)
    assert record["images"]["training"] == 8
    assert [unit["stop"] for unit in record["units"]] == [2, 4]
    assert 0 < record["units"][0]["mapped"] < 1
    child = Anchor(**record["anchor"], checkpoint=str(out))
    child.init_weights()
    assert (child.depth, child.dim) == (2, 16)
    with safetensors.safe_open(out, "pt") as file:
        stored = file.get_tensor("blocks.1.mlp.fc1.weight")
    assert torch.equal(child.vit.blocks[1].mlp.fc1.weight, stored)
    assert not out.with_name(out.name + ".state").exists()


def test_the_command_cuts_without_images(command, tmp_path):
    first = safetensors.torch.load_file(command("--depth", "2", images=()))
    out = command("--blocks", "1,2", images=())
    cut = safetensors.torch.load_file(out)
    whole = safetensors.torch.load_file(tmp_path / "parent.safetensors")
    assert torch.equal(first["blocks.1.mlp.fc1.weight"], whole["blocks.1.mlp.fc1.weight"])
    assert torch.equal(cut["blocks.0.mlp.fc1.weight"], whole["blocks.1.mlp.fc1.weight"])
    assert not any(key.startswith("blocks.2") for key in cut)


def test_the_command_continues_where_it_was_stopped(command, monkeypatch, capsys):
    words = ("--depth", "2", "--distill-steps", "4", "--save-every", "2")
    undisturbed = safetensors.torch.load_file(command(*words, out="undisturbed.safetensors"))
    real = shrink.Distillation.train_step

    def stop_at_third(self, batch):
        if self.step == 2:
            raise Interrupt
        return real(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(shrink.Distillation, "train_step", stop_at_third)
        with pytest.raises(Interrupt):
            command(*words)
    capsys.readouterr()
    continued = safetensors.torch.load_file(command(*words))
    printed = capsys.readouterr().out
    assert "continues after step 2 of 4" in printed
    assert re.findall(r"step (\d) of 4: unexplained 0\.\d", printed) == ["4"]
    assert all(torch.equal(continued[key], value) for key, value in undisturbed.items())


@pytest.mark.parametrize(
    ("words", "options", "reason"),
    [
        (["--distill-steps", "2"], dict(images=()), "--distill-steps 2 needs --images"),
        (["--width", "16"], dict(images=()), "needs images"),
        (["--depth", "3"], {}, "depth 3 does not divide"),
        (["--held-out", "12"], {}, "12 held-out images of 12"),
        (["--held-out", "1"], {}, "too few images to compare child and parent"),
        (["--device", "toaster"], {}, "device 'toaster' cannot be used here"),
        (["--lr", "nan"], {}, "lr nan must be a positive number"),
        (["--weight-decay", "-1"], {}, r"weight_decay -1\.0 must be 0 or more"),
        (["--weight-decay", "nan"], {}, "weight_decay nan must be 0 or more"),
        ([], dict(out="child.pth"), r"child\.pth' must end in \.safetensors"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(command, words, options, reason):
    with pytest.raises(UserError, match=reason):
        command(*words, **options)
