"""Weights are read as data, checked by checksums, and written whole."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file

from mmsn.errors import UserError
from mmsn.state_dict import find_damage, read_checkpoint, write_checkpoint


@pytest.fixture
def lines(monkeypatch):
    """What is logged while a checkpoint is read."""
    logged = []
    monkeypatch.setattr("mmsn.state_dict.print_log", lambda line, **kwargs: logged.append(line))
    return logged


def load(path):
    """As mmengine loads weights, through ``mmsn.loaders``."""
    load_checkpoint(torch.nn.Linear(1, 1), str(path))


def flip_a_bit(path):
    """Make 500.00003 of the 500 in ``torch.arange(1000.0)``."""
    data = bytearray(path.read_bytes())
    data[data.index(torch.tensor(500.0).numpy().tobytes())] ^= 1
    path.write_bytes(data)


def test_one_flipped_bit_in_a_tensor_is_found(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"weight": torch.arange(1000.0)}, "meta": {}}, path)
    assert find_damage(path) is None
    flip_a_bit(path)
    # torch itself takes it
    assert torch.load(path, weights_only=True)["state_dict"]["weight"][500] != 500
    for read in (read_checkpoint, load):
        with pytest.raises(UserError, match=r"weights\.pth' is damaged .*checksum"):
            read(path)


def test_safetensors_written_here_carry_a_checksum(tmp_path):
    path = tmp_path / "weights.safetensors"
    tensors = {"weight": torch.arange(1000.0), "half": torch.ones(2, dtype=torch.bfloat16)}
    tensors |= {"flag": torch.tensor(True), "empty": torch.zeros(0)}
    write_checkpoint(path, tensors, {})
    assert read_checkpoint(path)[0].keys() == tensors.keys()
    flip_a_bit(path)
    with pytest.raises(UserError, match=r"weights\.safetensors' is damaged .*checksum"):
        load(path)
    save_file(tensors, path)  # as others write them
    assert read_checkpoint(path)[0]["weight"][500] == 500


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"weight": torch.arange(1000.0)}}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"weights\.pth' is damaged") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_weights_that_are_not_finite_are_named(tmp_path, name, lines):
    weights = {"good.weight": torch.ones(2), "bad.weight": torch.tensor([1.0, float("nan")])}
    write_checkpoint(tmp_path / name, weights, {})
    CheckpointLoader.load_checkpoint(str(tmp_path / name))
    assert len(lines) == 1
    assert f"{name}': 1 of 2 tensors hold NaN or infinity, first 'bad.weight'" in lines[0]
    write_checkpoint(tmp_path / name, {"good.weight": torch.ones(2)}, {})
    CheckpointLoader.load_checkpoint(str(tmp_path / name))
    assert len(lines) == 1


def test_writing_weights_replaces_them_whole(tmp_path, monkeypatch):
    path: Path = tmp_path / "x.pth"
    write_checkpoint(path, {"weight": torch.ones(2)}, {})

    other = tmp_path / "x.safetensors"
    write_checkpoint(other, {"weight": torch.ones(2)}, {})
    original = Path.write_bytes

    def fail(self, data):
        original(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    for file in (path, other):
        with pytest.raises(
            UserError, match=r"could not be written \(No space left on device.*room"
        ):
            write_checkpoint(file, {"weight": torch.zeros(2)}, {})
        assert read_checkpoint(file)[0]["weight"].tolist() == [1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth", "x.safetensors"]
