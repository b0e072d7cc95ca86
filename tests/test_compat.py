"""The shims."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision.ops
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint as load_checkpoint

from mmsn import compat, stack

FORKS = {
    "onedl-mmengine": "0.10.12",
    "onedl-mmcv": "2.3.6",
    "onedl-mmsegmentation": "1.4.2",
}


def test_prepare_raises_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "installed_versions", dict)
    with pytest.raises(ImportError, match="pip install onedl-mmengine onedl-mmcv"):
        compat.prepare()


def test_torchvision_imports_beside_any_torch() -> None:
    assert compat.add_torchvision_operators() is False  # done at import: nothing left to do
    import torchvision

    assert torchvision.__version__
    assert torch.ops.torchvision.nms is not None


def test_distutils_can_be_imported() -> None:
    compat.add_distutils()
    assert importlib.util.find_spec("distutils") is not None


def test_a_missing_operator_names_itself_when_called() -> None:
    ops = compat.UncompiledOps()
    focal = ops.sigmoid_focal_loss_forward  # mmcv only looks it up at import
    with pytest.raises(RuntimeError, match='"sigmoid_focal_loss_forward"') as caught:
        focal(torch.zeros(1), gamma=2.0)
    assert "\n" not in str(caught.value)
    assert ops.get_compiler_version() == "not compiled"
    assert not hasattr(ops, "__path__")


def test_suppression_of_boxes_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple] = []
    monkeypatch.setattr(torchvision.ops, "nms", lambda *args: seen.append(args) or "kept")
    ops, boxes, scores = compat.UncompiledOps(), torch.zeros(2, 4), torch.zeros(2)
    assert ops.nms(boxes, scores, iou_threshold=0.7, offset=0) == "kept"
    assert seen[0][0] is boxes
    assert seen[0][1:] == (scores, 0.7)
    with pytest.raises(RuntimeError, match="offset 1"):
        ops.nms(boxes, scores, iou_threshold=0.7, offset=1)


def test_masks_are_cut_by_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple] = []
    monkeypatch.setattr(
        torchvision.ops, "roi_align", lambda *args: seen.append(args[2:]) or torch.ones(1, 1, 2, 3)
    )
    output, empty = torch.zeros(1, 1, 2, 3), torch.zeros(0)
    options = dict(aligned_height=2, aligned_width=3, spatial_scale=0.5, sampling_ratio=0)
    arguments = (torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), output, empty, empty)
    ops = compat.UncompiledOps()
    ops.roi_align_forward(*arguments, **options, pool_mode=1, aligned=True)
    assert seen == [((2, 3), 0.5, 0, True)]
    assert (output == 1).all()
    with pytest.raises(RuntimeError, match="pool_mode"):
        ops.roi_align_forward(*arguments, **options, pool_mode=0, aligned=True)


def test_the_stand_in_is_only_for_what_imports_operators_unguarded() -> None:
    import mmcv

    compiled = any(Path(mmcv.__file__).parent.glob("_ext*"))
    users = "mmsegmentation" in stack.installed_versions() or importlib.util.find_spec("mmdet")
    needed = bool(users) and not compiled
    assert isinstance(sys.modules.get("mmcv._ext"), compat.UncompiledOps) == needed


@pytest.mark.parametrize(
    ("installed", "mmdet", "compiled", "needed"),
    [
        (FORKS, False, False, False),
        (FORKS, True, False, True),
        (FORKS, True, True, False),
        (FORKS | {"mmsegmentation": "1.2.2"}, False, False, True),
    ],
)
def test_who_needs_the_stand_in(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    installed: dict[str, str],
    mmdet: bool,
    compiled: bool,
    needed: bool,
) -> None:
    if compiled:
        (tmp_path / "_ext.so").touch()
    monkeypatch.setattr(compat, "package_directory", lambda name: tmp_path)
    monkeypatch.setattr(compat, "find_spec", lambda name: object() if mmdet else None)
    monkeypatch.setitem(sys.modules, "mmcv._ext", ModuleType("mmcv._ext"))
    assert compat.add_mmcv_operators(installed) is needed


def test_mmengine_checkpoints_load_with_weights_only(tmp_path: Path) -> None:
    history = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 1])
    scalars = {code: np.dtype(code).type(1) for code in "?bhilqBHILQefd"}
    path = tmp_path / "checkpoint.pth"
    torch.save({"hub": {"train/loss": history, **scalars}, "weight": torch.ones(2)}, path)

    load_checkpoint(str(path))  # the forks' loader changes torch's list; ours must survive it
    loaded = torch.load(path, weights_only=True)

    assert loaded["hub"]["train/loss"].mean() == pytest.approx(7 / 3)
    assert {code: loaded["hub"][code] for code in scalars} == scalars
    assert torch.equal(loaded["weight"], torch.ones(2))


def test_preparing_replaces_the_loaders_of_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict.fromkeys(CheckpointLoader._schemes, print)  # as if nothing had been replaced
    monkeypatch.setattr(CheckpointLoader, "_schemes", known)
    monkeypatch.delitem(sys.modules, "mmsn.loaders", raising=False)
    compat.prepare()
    now = CheckpointLoader._schemes
    assert now[""].__module__ == "mmsn.loaders"
    assert now.keys() >= known.keys()
    assert print not in now.values()


def test_an_older_torch_knows_objects_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(torch, "__version__", "2.4.1")
    monkeypatch.setattr(torch.serialization, "add_safe_globals", given.extend)
    compat.allow_mmengine_checkpoints()
    names = {f"{known.__module__}.{known.__name__}": known for known in given}  # type: ignore[attr-defined]
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    for module in ("builtins", "__builtin__"):
        method = names[f"{module}.getattr"](HistoryBuffer, "mean")  # type: ignore[operator]
        assert method(history) == 2.0
    for package in ("numpy.core", "numpy._core"):
        empty = names[f"{package}.multiarray._reconstruct"](np.ndarray, (0,), b"b")  # type: ignore[operator]
        assert empty.shape == (0,)
    assert names["mmengine.logging.history_buffer.HistoryBuffer"] is HistoryBuffer
    assert names["numpy.ndarray"] is np.ndarray
    encode = names["_codecs.encode"]
    assert encode("\xff\0", "latin1") == b"\xff\0"  # type: ignore[operator]
    with pytest.raises(ValueError, match="only latin1"):
        encode("x", "rot13")  # type: ignore[operator]


class _Asks:
    """Pickles as ``getattr(owner, name)``, the way a hostile checkpoint would."""

    def __init__(self, owner: object, name: str) -> None:
        self.arguments = (owner, name)

    def __reduce__(self) -> tuple[object, tuple[object, str]]:
        return getattr, self.arguments


@pytest.mark.parametrize(
    "request_", [_Asks(HistoryBuffer, "__init__"), _Asks(np.ndarray, "tofile")]
)
def test_a_checkpoint_gets_no_other_attribute(tmp_path: Path, request_: _Asks) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"hub": request_}, path)
    with pytest.raises(Exception, match="only HistoryBuffer's own"):
        torch.load(path, weights_only=True)


def test_a_config_may_be_based_on_one_of_mmseg(tmp_path: Path) -> None:
    from mmengine.config import Config

    file = tmp_path / "c.py"
    file.write_text('_base_ = "mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py"\n')
    assert Config.fromfile(file).model.decode_head.type.endswith("UPerHead")


def test_the_import_is_quiet() -> None:
    """Also for what mmcv and mmseg warn of, which users of mmsn do not need."""
    done = subprocess.run(
        [sys.executable, "-c", "import mmsn; print('done')"], capture_output=True, text=True
    )
    assert done.stdout == "done\n"
    assert "MultiScaleDeformableAttention" not in done.stderr
