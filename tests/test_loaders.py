"""Checkpoints are data, whichever door of mmengine they come through."""

import os
import urllib.request
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import initialize
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmseg.apis import init_model
from safetensors.torch import save_file

from mmsn import loaders
from mmsn.errors import UserError
from mmsn.state_dict import find_damage, read_checkpoint, write_checkpoint


class Runs:
    """Pickles as a call that leaves a file behind, as a hostile checkpoint would."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint with weights and a call, and the folder that appears if the call is made."""
    mark = tmp_path / "code was run"
    path = tmp_path / "hostile.pth"
    torch.save({"state_dict": {"weight": torch.ones(1, 1)}, "meta": Runs(mark)}, path)
    return path, mark


def by_init_cfg(path):
    module = torch.nn.Linear(1, 1, bias=False)
    init_cfg = dict(type="Pretrained", checkpoint=str(path))
    initialize(module, init_cfg)


def by_init_model(path):
    model = dict(type="mmseg.EncoderDecoder", backbone=dict(type="mmseg.UNet"))
    head = dict(type="mmseg.FCNHead", in_channels=64, channels=8, num_convs=1, num_classes=2)
    model.update(decode_head=head, test_cfg=dict(mode="whole"))
    init_model(Config(dict(model=model)), str(path), device="cpu")


@pytest.fixture
def lines(monkeypatch):
    """What is logged while a checkpoint is read."""
    logged = []
    monkeypatch.setattr("mmsn.state_dict.print_log", lambda line, **kwargs: logged.append(line))
    return logged


DOORS = {
    "load_checkpoint": lambda path: load_checkpoint(torch.nn.Linear(1, 1), str(path)),
    "init_cfg": by_init_cfg,
    "init_model": by_init_model,
    "read_checkpoint": read_checkpoint,
}


@pytest.mark.parametrize("door", DOORS)
def test_code_in_a_checkpoint_is_refused_in_one_line_and_not_run(hostile, door):
    path, mark = hostile
    with pytest.raises(UserError, match=r"hostile\.pth' cannot .* asks for posix\.mkdir") as caught:
        DOORS[door](path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    assert "MMSN_TRUST_CHECKPOINTS=1" in str(caught.value)


def test_the_switch_loads_what_one_trusts(hostile, monkeypatch, lines):
    path, mark = hostile
    monkeypatch.setenv("MMSN_TRUST_CHECKPOINTS", "1")
    module = torch.nn.Linear(1, 1, bias=False)
    load_checkpoint(module, str(path))
    assert mark.is_dir()
    assert module.weight == 1
    assert "MMSN_TRUST_CHECKPOINTS is set" in lines[0]


@pytest.mark.parametrize("url", ["https://example.invalid/hostile.pth", "mmcls://hostile"])
def test_downloads_are_data_too(hostile, url, monkeypatch, tmp_path):
    path, mark = hostile
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "mmengine.runner.checkpoint.get_mmcls_models",
        lambda: {"hostile": "https://example.invalid/hostile.pth"},
    )
    monkeypatch.setattr(urllib.request, "urlopen", None)  # no network, whatever is asked
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda url, dst, *a, **k: path.replace(dst)
    )
    before = dict(os.environ)
    with pytest.raises(UserError, match=r"hostile.* asks for posix\.mkdir"):
        CheckpointLoader.load_checkpoint(url)
    assert not mark.exists()
    assert dict(os.environ) == before


def test_every_loader_of_mmengine_is_replaced_or_guarded():
    own = {loaders.load_from_local, loaders.load_from_safetensors}
    for prefix, loader in CheckpointLoader._schemes.items():
        assert loader in own or loader.__wrapped__, prefix
    assert CheckpointLoader._schemes[""] is loaders.load_from_local


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
    for read in (read_checkpoint, DOORS["load_checkpoint"]):
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
        DOORS["load_checkpoint"](path)
    save_file(tensors, path)  # as others write them
    assert read_checkpoint(path)[0]["weight"][500] == 500


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"weight": torch.arange(1000.0)}}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"weights\.pth' is damaged") as caught:
        DOORS["load_checkpoint"](path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2]], ids=["tensor", "list"])
def test_what_holds_no_names_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds no named tensors"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"))


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

    def fail(content, part):
        Path(part).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(path, {"weight": torch.zeros(2)}, {})
    assert read_checkpoint(path)[0]["weight"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
