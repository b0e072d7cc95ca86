"""Make today's PyTorch and either OpenMMLab stack work together.

``prepare()`` runs once, at ``import mmsn`` and before timm, mmcv or mmseg are imported. It checks
what is installed (``mmsn.stack``), then applies the shims below, each only where it is needed:

=====================  ==============================================================
shim                   needed by
=====================  ==============================================================
torchvision operators  a torchvision whose compiled part does not fit torch (a CUDA
                       torchvision beside a CPU torch), seen with 0.28 and 2.13
distutils              Python 3.12 and later with mmengine's environment report
``mmcv._ext``          mmcv-lite with mmsegmentation 1.2, which imports ``mmcv.ops``
                       unguarded; the onedl forks (1.4 and later) guard it. And any
                       mmdet on an mmcv without compiled operators: box suppression
                       then comes from torchvision
safe globals           ``torch.load(weights_only=True)``, which refuses the message
                       hub that mmengine saves in checkpoints
checkpoint loaders     the forks, which fall back to ``weights_only=False`` and so
                       run code that a checkpoint holds; the originals with torch
                       before 2.6, which never refuse it. See ``mmsn.loaders``;
                       ``MMSN_TRUST_CHECKPOINTS=1`` switches the protection off
names of packages      ``_base_ = "mmseg::..."`` on the forks: mmengine looks for the
                       distribution "mmsegmentation" only
quiet import           mmseg and mmcv, which say at import that OneDL could not be
                       imported (twice) and that mmcv-lite lacks one operator, which
                       no head of a stitched ViT uses; nothing else is silenced
=====================  ==============================================================

Left out on purpose: nothing here patches a function of mmengine, mmcv or mmseg. Loaders are
registered where mmengine lets loaders be registered.
"""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from packaging.version import Version

from mmsn.stack import StackProblem, installed_versions, package_directory, stack_problem

__all__ = ["prepare"]


def add_torchvision_operators() -> bool:
    """Declare ``torchvision::nms`` and ``qnms`` where torchvision's compiled part cannot load.

    ``import torchvision`` registers shape functions for these two operators without looking
    whether they exist, and timm and mmengine import torchvision. Declared, not implemented: a
    call still fails, with torchvision's own message. Returns whether this was needed.
    """
    import torch

    if find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
        return False
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    # The failed import leaves submodules behind that would be taken for loaded ones.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _keep_alive.append(library)
    importlib.import_module("torchvision")
    return True


_keep_alive: list[Any] = []  # a torch Library withdraws its operators when it is collected


def add_distutils() -> bool:
    """Provide ``distutils`` through setuptools where Python has none (3.12 and later)."""
    if find_spec("distutils") is not None or find_spec("setuptools") is None:
        return False
    importlib.import_module("setuptools")
    return find_spec("distutils") is not None


class UncompiledOps(ModuleType):
    """Stands in for ``mmcv._ext``: every operator exists, and says when called that it is missing.

    Except suppression of boxes, and RoIAlign without gradients, by which masks are cut: torchvision
    has both alike. With ``use_torchvision=True`` for the RoIAlign of its config, Mask R-CNN of
    mmdet trains.

    ``mmcv.ops`` asserts at import that the operators exist, which this satisfies. Its own checks
    for compiled operators (``mmcv.utils.check_ops_exist``) still answer no, because the spec has
    no loader.
    """

    def __init__(self) -> None:
        super().__init__("mmcv._ext", "Stand-in made by mmsn.compat; mmcv-lite has no operators.")
        self.__spec__ = ModuleSpec("mmcv._ext", loader=None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("get_compiler_version", "get_compiling_cuda_version"):
            return lambda: "not compiled"  # environment reports call these two

        def operator(*args: Any, **kwargs: Any) -> NoReturn:
            raise RuntimeError(
                f'mmcv operator "{name}" is compiled code, which mmcv-lite does not have; fix: '
                f"choose a head or loss without it, or build mmcv: pip uninstall -y mmcv-lite && "
                f'pip install "setuptools<81" && pip install --no-build-isolation mmcv==2.1.0'
            )

        operator.__name__ = name
        return operator

    @staticmethod
    def nms(boxes: Any, scores: Any, iou_threshold: float, offset: int) -> Any:
        """Indices of the (N, 4) boxes that stay, highest score first."""
        if offset:
            raise RuntimeError(f"nms with offset {offset} is compiled code of mmcv: use offset 0")
        return importlib.import_module("torchvision.ops").nms(boxes, scores, iou_threshold)

    @staticmethod
    def roi_align_forward(
        maps: Any,
        boxes: Any,
        output: Any,
        argmax_y: Any,
        argmax_x: Any,
        aligned_height: int,
        aligned_width: int,
        spatial_scale: float,
        sampling_ratio: int,
        pool_mode: int,
        aligned: bool,
    ) -> None:
        """Fill (N, C, h, w) ``output`` with what lies in the (N, 5) boxes of (B, C, H, W) maps."""
        if pool_mode != 1:
            raise RuntimeError("RoIAlign by maximum is compiled code of mmcv: use pool_mode 'avg'")
        align = importlib.import_module("torchvision.ops").roi_align
        size = (aligned_height, aligned_width)
        output.copy_(align(maps, boxes, size, spatial_scale, sampling_ratio, aligned))


def add_mmcv_operators(installed: Mapping[str, str]) -> bool:
    """Put a stand-in for ``mmcv._ext`` where the original mmseg or mmdet meets an mmcv without it.

    Before mmseg is imported, because mmseg imports mmdet where it is installed.
    """
    directory = package_directory("mmcv")
    needed = "mmsegmentation" in installed or find_spec("mmdet") is not None
    if not needed or directory is None or any(directory.glob("_ext*")):
        return False
    sys.modules.setdefault("mmcv._ext", UncompiledOps())
    return True


def allow_mmengine_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine checkpoints.

    Their message hub holds ``HistoryBuffer`` objects with NumPy arrays, which torch refuses; the
    forks allow them for their own loading only.
    """
    import numpy
    import torch
    from mmengine.logging import HistoryBuffer

    def history_method(owner: type, name: str) -> Any:
        if owner is not HistoryBuffer or name.startswith("_"):
            raise ValueError(f"a checkpoint asked for {owner!r}.{name}; only HistoryBuffer's own")
        return getattr(owner, name)

    # A pickled HistoryBuffer names its methods as getattr(HistoryBuffer, "mean"). Allowing the
    # real getattr would undo much of what weights_only protects, so a narrow one takes its name.
    # torch.save writes protocol 2, where the module of built-in functions has its old name.
    allowed: list[Any] = [
        (history_method, "builtins.getattr"),
        (history_method, "__builtin__.getattr"),
    ]
    dtypes = {type(numpy.dtype(code)) for code in "?bhilqBHILQefd"}
    for known in (HistoryBuffer, numpy.ndarray, numpy.dtype, *dtypes):
        allowed.append((known, f"{known.__module__}.{known.__qualname__}"))
    core = importlib.import_module(
        "numpy._core.multiarray" if find_spec("numpy._core") else "numpy.core.multiarray"
    )
    for package in ("numpy.core", "numpy._core"):  # as NumPy 1 and NumPy 2 wrote it
        for name in ("_reconstruct", "scalar"):
            allowed.append((getattr(core, name), f"{package}.multiarray.{name}"))
    if Version(torch.__version__) < Version("2.6"):  # takes objects by their own names alone
        # Later versions know it: the text that holds a NumPy scalar's bytes in protocol 2.
        allowed.append((_latin1_bytes, "_codecs.encode"))
        allowed = [_renamed(known, name) for known, name in allowed]
    # Pairs, not plain objects: the forks take their plain ones off the list after each load.
    torch.serialization.add_safe_globals(allowed)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"a checkpoint asked for the codec {encoding!r}; only latin1 is allowed")
    return text.encode("latin1")


def _renamed(known: Any, name: str) -> Any:
    """A callable that does what ``known`` does and says that it is called ``name``."""
    if f"{known.__module__}.{known.__name__}" == name:
        return known

    def alias(*args: Any) -> Any:
        return known(*args)

    alias.__module__, _, alias.__name__ = name.rpartition(".")
    return alias


def name_the_fork(installed: Mapping[str, str]) -> bool:
    """Let ``_base_ = "mmseg::..."`` find the configs of the fork, which has another name in pip.

    mmengine keeps these names in a table for its readers, so that an entry is all it takes.
    """
    if "onedl-mmsegmentation" not in installed:
        return False
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE["mmseg"] = "onedl-mmsegmentation"
    return True


def replace_checkpoint_loaders() -> None:
    """Let mmengine read checkpoints as data, whatever they ask for."""
    importlib.import_module("mmsn.loaders")  # not at the top: it imports mmengine


# What mmcv and mmseg say at import, of packages that mmsn does not need.
_SAID_AT_IMPORT = "Could not import OneDL"
_WARNED_AT_IMPORT = "Fail to import ``MultiScaleDeformableAttention``"


class _WithoutLine(io.TextIOBase):
    """Writes to another stream all lines but one."""

    def __init__(self, stream: Any, line: str) -> None:
        self._stream, self._line, self._after_line = stream, line, False

    def write(self, text: str) -> int:
        """Write, unless it is the line, or the end of the line after it."""
        is_end, self._after_line = self._after_line and text == "\n", text == self._line
        if not is_end and text not in (self._line, f"{self._line}\n"):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        self._stream.flush()


def import_quietly() -> None:
    """Import the parts of mmcv and mmseg that report packages which mmsn does not need."""
    with warnings.catch_warnings(), redirect_stdout(_WithoutLine(sys.stdout, _SAID_AT_IMPORT)):
        warnings.filterwarnings("ignore", message=_WARNED_AT_IMPORT)
        for name in ("mmcv.cnn.bricks.transformer", "mmseg.datasets"):
            importlib.import_module(name)


def prepare() -> None:
    """Check the stack and apply every shim that it needs; the order matters.

    Raises:
        StackProblem: when packages are missing, installed twice, too old or too new.
    """
    installed = installed_versions()
    problem = stack_problem(installed)
    if problem is not None:
        raise StackProblem(problem)
    add_torchvision_operators()  # first: mmengine and mmcv import torchvision
    add_distutils()
    add_mmcv_operators(installed)
    allow_mmengine_checkpoints()
    replace_checkpoint_loaders()
    name_the_fork(installed)
    import_quietly()  # last: it needs all of the above
