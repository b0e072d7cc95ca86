"""mmengine's loaders of checkpoints, replaced by loaders that execute nothing.

With them ``load_from``, ``resume``, ``init_model`` and ``init_cfg=dict(type="Pretrained")`` read
files as data, as :mod:`mmsn.state_dict` does. The forks' own loaders fall back to
``weights_only=False`` when a file asks for code, and so run it; those of mmengine before torch 2.6
never refuse. They take ``.safetensors``, too. Everything goes through
``CheckpointLoader.register_scheme``, which mmengine offers for this; no function is patched.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader

from mmsn.errors import MissingFile, UserError
from mmsn.state_dict import (
    TRUST,
    read_checkpoint,
    read_pickle,
    refusal,
    trusts_checkpoints,
    warn_of_non_finite,
)


# mmengine asks for the loader of the longest prefix, as a pattern; '' is a path on this machine.
@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """A local checkpoint as mmengine's own loader gives it, read as data."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise MissingFile(f"checkpoint {str(path)!r} does not exist")
    checkpoint = read_pickle(path, map_location)
    if not isinstance(checkpoint, dict):
        raise UserError(f"checkpoint {str(path)!r} holds no named tensors")
    state = checkpoint.get("state_dict", checkpoint)
    warn_of_non_finite(path, state if isinstance(state, dict) else {})
    return checkpoint


# mmengine matches the whole path; unless a scheme is more special, such as "https://".
@CheckpointLoader.register_scheme(prefixes=r".*\.safetensors$", force=True)
def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """A ``.safetensors`` file as mmengine's own loaders give a checkpoint."""
    path = Path(filename).expanduser()
    tensors, meta = read_checkpoint(path)
    warn_of_non_finite(path, tensors)
    checkpoint: dict[str, Any] = dict(state_dict=tensors, meta={})
    if meta:
        checkpoint["meta"]["dataset_meta"] = meta
    return checkpoint


@contextmanager
def weights_only() -> Iterator[None]:
    """Make every ``torch.load`` in the block refuse code, even with ``weights_only=False``.

    For functions of torch and mmengine that ask for ``weights_only=False``, as those for downloads.
    """
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _guarded(loader: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(loader)  # mmengine logs the name
    def load(filename: str, *args: Any, **kwargs: Any) -> Any:
        if trusts_checkpoints():
            return loader(filename, *args, **kwargs)
        try:
            with weights_only():
                return loader(filename, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"checkpoint {filename!r} cannot be read as plain tensors ({refusal(error)}): "
                f"set {TRUST}=1 if you trust its source: code in it would run"
            ) from error

    return load


for _prefix, _loader in list(CheckpointLoader._schemes.items()):
    if _loader not in (load_from_local, load_from_safetensors):
        CheckpointLoader.register_scheme(prefixes=_prefix, loader=_guarded(_loader), force=True)
