"""Checkpoints are data, whichever way of mmengine loads them."""

import os
import urllib.request

import pytest
import torch
from mmengine.config import Config
from mmengine.model import initialize
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmseg.apis import init_model

from mmsn import loaders
from mmsn.errors import UserError
from mmsn.state_dict import read_checkpoint


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


def test_the_switch_loads_what_one_trusts(hostile, monkeypatch):
    path, mark = hostile
    lines = []
    monkeypatch.setattr("mmsn.state_dict.print_log", lambda line, **kwargs: lines.append(line))
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


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2]], ids=["tensor", "list"])
def test_what_holds_no_names_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds no named tensors"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"))
