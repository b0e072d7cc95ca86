"""The only way to a segmentor: build one from a config, or open one with its weights.

Weights are read as data (``mmsn.state_dict``) and must fit: a key that is missing, unknown or of
another shape is an error, so no part stays random unnoticed. Auxiliary heads are the
exception, because only training uses them.

Left out on purpose: training. A Runner builds its own model and loads its own checkpoint. Users may
call mmseg's ``init_model``, which is not strict; mmsn does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmsn.errors import MissingFile, UserError
from mmsn.state_dict import read_checkpoint

AUXILIARY = "auxiliary_head."


def read_config(path: str | Path) -> Config:
    """Read a config file; the modules that it names are imported.

    Raises:
        MissingFile: no such file.
        UserError: a file that is not a config.
    """
    if not Path(path).is_file():
        raise MissingFile(f"config {str(path)!r} does not exist: give a config file")
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program, which may raise anything
        cause: BaseException = error
        fix = "correct it"
        while isinstance(cause, ImportError) and (inner := cause.__cause__ or cause.__context__):
            cause = inner  # mmengine wraps these in the whole of sys.path
        if isinstance(cause, ModuleNotFoundError):
            fix = "install that package, or remove it from custom_imports"
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise UserError(f"config {str(path)!r} cannot be read ({reason}): {fix}") from error


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """The device of this name, by default CUDA where there is one, else the CPU.

    Raises:
        UserError: a device that this machine or this PyTorch does not have.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    # CPU-only builds of PyTorch raise AssertionError, unsupported backends NotImplementedError
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        raise UserError(
            f"device {str(name)!r} cannot be used here ({reason}): give one of "
            f"{', '.join(['cpu', *there])}"
        ) from error
    return device


def build(config: Config, device: str | torch.device = "cpu") -> Any:
    """The segmentor of a config, in evaluation mode, with random weights.

    On the device "meta" it has shapes and no values, which takes no memory: enough to count costs
    and to compare a checkpoint with. ``SyncBatchNorm`` becomes ``BatchNorm``, which gives the same
    in evaluation and runs on every device.

    Raises:
        UserError: a config without a segmentor.
    """
    if "backbone" not in config.get("model", {}):
        name = config.filename or "given"
        raise UserError(f"config {name!r} has no model with a backbone: give that of a segmentor")
    init_default_scope(config.get("default_scope", "mmseg"))
    if torch.device(device).type == "meta":
        with torch.device("meta"), _NumbersOnCpu(), without_advice_on_losses():
            return revert_sync_batchnorm(MODELS.build(config.model)).eval()
    with without_advice_on_losses():
        model = revert_sync_batchnorm(MODELS.build(config.model)).eval()
    # Not made on the device directly: what fits only there in part would fail halfway.
    return model.to(device)


@contextmanager
def without_advice_on_losses() -> Iterator[None]:
    """Build a segmentor without mmseg's advice to set ``avg_non_ignore=True``, once for each loss.

    The published recipes of mmseg and SN-Netv2 leave it False, which averages over ignored pixels,
    too. Another value would change the balance of losses, and so published numbers.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Default ``avg_non_ignore`` is False")
        yield


class _NumbersOnCpu(TorchFunctionMode):
    """Keeps ``linspace`` off the meta device: heads read rates of dropped paths out of it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is torch.linspace:
            options.setdefault("device", "cpu")
        return func(*args, **options)


def check_weights(network: nn.Module, state: Mapping[str, Tensor], auxiliary: bool = False) -> None:
    """Compare names and shapes.

    Args:
        network: on any device, also "meta".
        state: what will be loaded into it.
        auxiliary: compare auxiliary heads, too.

    Raises:
        UserError: they differ; the message counts and names the differences in one line.
    """
    own = network.state_dict()
    wanted = {k for k in own if auxiliary or not k.startswith(AUXILIARY)}
    found = {k for k in state if auxiliary or not k.startswith(AUXILIARY)}
    shapes = [k for k in sorted(wanted & found) if own[k].shape != state[k].shape]
    faults = {
        "are missing": sorted(wanted - found),
        "are unexpected": sorted(found - wanted),
        "have another shape": [
            f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in shapes
        ],
    }
    told = [
        f"{len(names)} keys {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for what, names in faults.items()
        if names
    ]
    if told:
        raise UserError(
            f"the checkpoint is of another network than the config ({'; '.join(told)}): give the "
            "config and the checkpoint of one training"
        )


def load_weights(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict that must fit.

    Auxiliary heads receive weights only where both sides have the same ones.

    Raises:
        UserError: names or shapes differ; see ``check_weights``.
    """
    check_weights(network, state)
    own = network.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(fitting, strict=False)  # checked above; the rest is auxiliary


def dataset_meta(config: Config) -> dict[str, Any]:
    """Classes and palette of a config's test dataset, as far as its class or the config says."""
    init_default_scope(config.get("default_scope", "mmseg"))
    dataset = (config.get("test_dataloader") or {}).get("dataset", {})
    kind = dataset.get("type")
    if isinstance(kind, str):
        # `get` alone knows only mmengine's own datasets; this is how `build` finds mmseg's.
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    known = {**getattr(kind, "METAINFO", {}), **dataset.get("metainfo", {})}
    return {name: known[name] for name in ("classes", "palette") if name in known}


def open_segmentor(
    config: str | Path | Config, checkpoint: str | Path, device: str | torch.device = "cpu"
) -> Any:
    """The segmentor of a config with the weights of a checkpoint, in evaluation mode.

    It has what mmseg's ``inference_model`` reads: ``cfg``, and as ``dataset_meta`` the classes and
    the palette that the checkpoint names, else those of the config's test dataset.

    Args:
        config: file or ``Config``.
        checkpoint: ``.safetensors``, ``.pth`` or ``.pt``.
        device: see ``usable_device``.

    Raises:
        MissingFile: no such config or checkpoint.
        UserError: a file that cannot be read, or a checkpoint of another network.
    """
    config = config if isinstance(config, Config) else read_config(config)
    state, meta = read_checkpoint(checkpoint)
    check_weights(build(config, "meta"), state)  # before gigabytes are initialized for nothing
    return with_weights(config, state, meta, device)


def with_weights(
    config: Config,
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    device: str | torch.device = "cpu",
) -> Any:
    """``open_segmentor`` for weights that are in memory; ``meta`` holds classes and palette."""
    model = build(config)
    load_weights(model, state)
    model.cfg, model.dataset_meta = config, dict(meta) or dataset_meta(config)
    return model.to(device)
