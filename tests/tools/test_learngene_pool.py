"""The command that makes a pool: files, continuing, and a hook that reads them."""

import ast
import re

import pytest
import safetensors.torch
import timm
import torch

import mmsn.engine
from mmsn.engine import MatrixInitHook
from mmsn.models import StitchedClassifier
from mmsn.shrink import transposed
from mmsn.shrink.learngene import InstanceDistillation
from mmsn.shrink.transposed import read_matrices
from tests.shrink.tiny import write_images

NAME = "deit_tiny_patch16_224"


@pytest.fixture
def command(tool, tmp_path, monkeypatch):
    """The command on a random ancestor of two blocks of width 192 and two classes."""
    torch.manual_seed(0)
    real = timm.create_model

    def shallow(name, **options):
        return real(name, **dict(depth=2) | options)

    monkeypatch.setattr(timm, "create_model", shallow)
    whole = shallow(NAME, num_classes=2, img_size=32)
    torch.save(whole.state_dict(), tmp_path / "ancestor.pth")
    folder = write_images(tmp_path / "images")

    def call(*words, out="pool"):
        tool("learngene_pool").main(
            [
                *(NAME, "--checkpoint", str(tmp_path / "ancestor.pth"), "--num-classes", "2"),
                *("--images", str(folder), "--image-size", "32", "32", "--held-out", "4"),
                *("--steps", "4", "--batch-size", "4", "--save-every", "2", "--lr", "1e-3"),
                *("--instances", "2x64", "2x192", "--out", str(tmp_path / out), *words),
            ]
        )
        return tmp_path / out

    return call


def test_a_pool_is_files_of_anchors_and_of_matrices(command, capsys):
    out = command()
    printed = capsys.readouterr().out
    rows = re.findall(r"(\d) to (\d) after 0 +([\d.]+) +([\d.]+)", printed)
    assert [(a, b) for a, b, _, _ in rows] == [("0", "1"), ("1", "0")]
    steps = re.findall(r"step (\d) of 4: loss \d", printed)
    assert steps == ["2", "4"]  # every --save-every steps, of the instance that is distilled
    for _, _, started, solved in rows:
        assert float(solved) < float(started)
    anchors = ast.literal_eval(printed.partition("as anchors: ")[2].strip())
    assert not list(out.glob("*.state"))
    assert [a["embed_dim"] for a in anchors] == [64, 192]
    model = StitchedClassifier(anchors, img_size=32, num_classes=2, rank=2)
    model.init_weights()
    state = safetensors.torch.load_file(out / "instance_0_2x64.safetensors")
    assert torch.equal(
        model.anchor(0).vit.blocks[1].mlp.fc1.weight, state["blocks.1.mlp.fc1.weight"]
    )
    assert torch.equal(model.classifier(0).head.weight, state["head.weight"])

    small, large = read_matrices(out / "matrices.safetensors", 2)
    assert small.shape == (64, 192)
    assert large is None

    class Runner:
        pass

    runner = Runner()
    runner.model = torch.nn.Module()
    runner.model.backbone = model
    MatrixInitHook(str(out / "matrices.safetensors")).before_train(runner)
    assert model.uninitialized == ()
    for key in model.layer_keys:
        expected = small.T if key.target else small
        assert torch.allclose(model.layer(key).merged_weight(), expected, atol=1e-6)
    with torch.no_grad():
        for layer in model.stitching_layers.values():
            layer.weight.zero_()
    MatrixInitHook("gone.safetensors").before_train(runner)  # what is filled stays


def test_least_squares_sees_images_of_all_sources_and_none_held_out(command, monkeypatch):
    def spy(module, name):
        seen, real = [], getattr(module, name)

        def call(backbone, loader):
            seen.append(set(loader.dataset.files))
            return real(backbone, loader)

        monkeypatch.setattr(module, name, call)
        return seen

    solved = spy(mmsn.engine, "solve_stitching_layers")
    measured = spy(transposed, "affine_errors")
    command("--alpha", "0", "--held-out", "2", "--steps", "1")
    (fitted,), (held_out, again) = solved, measured
    assert held_out == again
    assert (len(fitted), len(held_out)) == (4, 2)
    assert not fitted & held_out
    assert {file.parent.name for file in fitted} == {"a", "b"}


def test_an_instance_of_the_ancestors_shape_is_the_ancestor(command, tmp_path, capsys):
    """The fixture gives two blocks of width 192, both here and by default."""
    out = command("--alpha", "0")
    found = safetensors.torch.load_file(out / "instance_1_2x192.safetensors")
    ancestor = torch.load(tmp_path / "ancestor.pth", weights_only=True)
    assert found.keys() == ancestor.keys()
    assert all(torch.equal(found[key], value) for key, value in ancestor.items())
    assert read_matrices(out / "matrices.safetensors", 2)[1] is None
    assert "instance_1" not in capsys.readouterr().out.partition("unexplained")[0]


def test_the_command_continues_where_it_was_stopped(command, monkeypatch, tmp_path):
    words = ("--alpha", "0", "--instances", "2x64", "2x128")
    undisturbed = command(*words, out="whole")

    class Stop(Exception):
        pass

    steps, real = [], InstanceDistillation.train_step

    def stop(self, batch):
        if len(steps) == 6:  # in the second instance
            raise Stop
        steps.append(self.step)
        return real(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(InstanceDistillation, "train_step", stop)
        with pytest.raises(Stop):
            command(*words)
    counted = []
    monkeypatch.setattr(
        InstanceDistillation,
        "train_step",
        lambda self, batch: counted.append(self.step) or real(self, batch),
    )
    out = command(*words)
    assert counted == [2, 3]
    for file in undisturbed.glob("*.safetensors"):
        mine, theirs = map(safetensors.torch.load_file, (out / file.name, file))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)
