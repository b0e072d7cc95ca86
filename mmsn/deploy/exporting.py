"""A whole segmentor as one file that needs neither mmsn nor mmseg: ONNX, or PyTorch's own ``.pt2``.

What a file computes is the segmentor's pass over a batch of equally large images: normalized
(B, 3, H, W) pixels to (B, classes, H, W) logits of the same size, as mmseg resizes them. What
comes before and after stays outside, as deployment tools expect: resize, color order,
normalization, sliding windows. Both kinds of files carry it as data
(``mmsn.deploy.inference_spec``). ``Predictor`` reads it, and so does the ``predict.py`` that is
written beside an ``.onnx`` file and needs neither PyTorch nor OpenMMLab.

The batch is free. Height and width are fixed by default: it makes the smaller graph, and sliding
windows have one size. They may be free where the head allows it.
``.pt2`` is ``torch.export``, which PyTorch keeps instead of TorchScript.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmsn.deploy.free_size import free_modules
from mmsn.deploy.inference_spec import InferenceSpec
from mmsn.deploy.menu import StitchMenu
from mmsn.deploy.quantization import quantize
from mmsn.errors import MissingFile, UserError
from mmsn.files import whole_file
from mmsn.loaders import weights_only
from mmsn.models.timm_vits import fix_input_size

Precision = Literal["float32", "float16", "bfloat16", "int8"]
SUFFIXES = (".onnx", ".pt2")
# Copied beside an .onnx file; a module only so that it is checked like one.
ONNX_PREDICT = Path(__file__).with_name("onnx_predict.py")
SMALLEST = 64  # pixels of a side that is free; pyramids halve the map of patches twice
SPEC_FILE = "mmsn.json"  # inside a .pt2
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Logits(nn.Module):
    """Normalized (B, 3, H, W) images in float32 to (B, classes, H, W) logits in float32.

    Args:
        model: a segmentor; a copy runs, in evaluation mode.
        image_size: (height, width) to which position embeddings are resampled once and for all;
            None resamples them in every pass.
        dtype: of the weights and the work between input and output.
    """

    def __init__(
        self, model: Any, image_size: tuple[int, int] | None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        # A copy: types and position embeddings change in place below.
        self.model = copy.deepcopy(model).eval().to(dtype)
        self.dtype = dtype
        if image_size is None:
            free_modules(self.model)
        else:
            fix_input_size(self.model, image_size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, classes, H, W)."""
        size = image.shape[2:]
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        logits = self.model.encode_decode(image.to(self.dtype), [meta])
        return logits.float()


def crop_size(config: Config) -> tuple[int, int]:
    """(height, width) that a segmentor sees: its sliding window, or its training crop."""
    size = config.model.get("test_cfg", {}).get("crop_size") or config.model.backbone.img_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def export(
    model: Any,
    path: str | Path,
    image_size: tuple[int, int] | None,
    precision: Precision = "float32",
    calibration: Sequence[np.ndarray] | None = None,
) -> Path:
    """Write a segmentor as ``.onnx`` or ``.pt2``, whichever ``path`` ends with.

    Beside an ``.onnx`` file, ``predict.py`` is written, which needs NumPy, Pillow and ONNX Runtime.

    Args:
        model: an mmseg ``EncoderDecoder``; a supernet's present stitch, with all its weights:
            extract the stitch first.
        path: the file; it is replaced if it exists.
        image_size: (height, width) of the images that it will take; None for any from 64x64 on,
            where the head allows it.
        precision: of weights and work; "int8" is ONNX Runtime's quantization of the linear layers,
            8 bits per weight and per activation.
        calibration: for int8, windows of ``calibration_windows``, which fix the scales of
            activations; None scales them as they come.

    Raises:
        UserError: a combination that is not supported, an empty image, a head that needs one
            size, or missing packages.
    """
    path = Path(path)
    check_request(path, precision)
    if calibration is not None and precision != "int8":
        raise UserError(f"calibration is for int8, not for {precision}: leave it out")
    if image_size is not None and min(image_size) < 1:
        raise UserError(f"image_size {image_size} is not allowed: give whole numbers from 1")
    dtype = torch.float32 if precision == "int8" else getattr(torch, precision)
    network = Logits(model, image_size, dtype)
    spec = InferenceSpec.of(model).for_file(image_size)
    if spec.stitch is not None:
        menu = StitchMenu(model)
        spec = replace(spec, macs=menu.macs[spec.stitch], params=menu.params[spec.stitch])
    # Two images: torch.export takes a batch of one for a constant. Sides that differ, for the same
    # reason, and that are not powers of two.
    images = torch.randn(2, 3, *(image_size or (80, 112)))
    free = {0: torch.export.Dim("batch")}
    if image_size is None:
        free |= {i: torch.export.Dim(f"side{i}", min=SMALLEST) for i in (2, 3)}
    with torch.no_grad():
        network(images)  # fills caches per size with real values, not traced ones
        with _said_of_head(model, image_size):
            # strict=False is the default of newer versions; the other way of tracing cannot read
            # the context variable that holds what stitches share.
            program = torch.export.export(network, (images,), dynamic_shapes=(free,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # of this machine, and larger than a small network
    if path.suffix == ".pt2":
        with whole_file(path) as part:
            inside = {SPEC_FILE: json.dumps(spec.to_metadata())}
            torch.export.save(program, part, extra_files=inside)
    elif precision == "int8":
        with tempfile.TemporaryDirectory() as folder, whole_file(path) as part:
            # ONNX Runtime quantizes from file to file.
            whole = Path(folder) / "float32.onnx"
            _write_onnx(program, images, free, spec, whole)
            quantize(whole, part, calibration)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not through a temporary name: above 2 GB, a second file is written that is named after it.
        with _said_of_head(model, image_size):
            _write_onnx(program, images, free, spec, path)
    if path.suffix == ".onnx":
        shutil.copyfile(ONNX_PREDICT, path.with_name("predict.py"))
    return path


@contextmanager
def _said_of_head(model: Any, image_size: tuple[int, int] | None) -> Iterator[None]:
    """Where sizes are free, a failure to trace or translate is reported as a limit of the head."""
    # PyTorch 2.4 fails an assertion while it words the reason.
    refusals = (torch._dynamo.exc.UserError, torch.onnx.errors.OnnxExporterError, AssertionError)
    try:
        yield
    except refusals as error:
        if image_size is not None:
            raise
        raise UserError(
            f"{type(model.decode_head).__name__} or what is before it needs images of one size for "
            "this format: give --image-size instead of --dynamic-size"
        ) from error


def check_request(path: Path, precision: Precision) -> None:
    """Raise UserError where ``export`` could not write such a file."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"file {str(path)!r} ends with none of {SUFFIXES}: name its format so")
    if precision not in get_args(Precision):
        raise UserError(f"precision {precision!r} is unknown: use one of {get_args(Precision)}")
    if path.suffix == ".onnx":
        _need_onnx()
        if precision == "bfloat16":
            raise UserError("ONNX Runtime has no bfloat16: let the file's name end with .pt2")
        script = path.with_name("predict.py")
        # The first line tells a predict.py of any version of mmsn from another program.
        first = ONNX_PREDICT.read_text().partition("\n")[0]
        if script.exists() and script.read_text(errors="replace").partition("\n")[0] != first:
            raise UserError(
                f"{str(script)!r} is another program, which predict.py would overwrite: export "
                "into another folder"
            )
    elif precision == "int8":
        raise UserError("int8 is made by ONNX Runtime: let the file's name end with .onnx")


@dataclass(frozen=True)
class Exported:
    """An exported file that is open: a function from images to logits, and what the file says.

    ``metadata`` is what ``InferenceSpec.to_metadata`` wrote, or empty.
    """

    run: Callable[[Tensor], Tensor]
    metadata: dict[str, str]

    def __call__(self, image: Tensor) -> Tensor:
        return self.run(image)


def open_exported(path: str | Path) -> Exported:
    """Open an exported file; it runs on the CPU.

    It has as many threads as PyTorch, so that their times compare.

    Raises:
        MissingFile: no such file.
        UserError: a file of another kind, or packages for ONNX are missing.
    """
    path = Path(path)
    is_onnx = path.suffix != ".pt2"
    if is_onnx:
        _need_onnx()
    if not path.is_file():
        raise MissingFile(f"{str(path)!r} does not exist: give an exported file")
    try:
        return _open_onnx(path) if is_onnx else _open_pt2(path)
    except Exception as error:  # whatever bytes a file holds, the reason names the file
        raise UserError(
            f"{str(path)!r} is not a file that tools/export.py wrote, or is damaged "
            f"({type(error).__name__}): export or copy it again"
        ) from error


def _open_pt2(path: Path) -> Exported:
    inside = {SPEC_FILE: ""}
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it logs the traceback of a damaged file, then raises
    try:
        # torch falls back to running pickled code. It also evaluates expressions of the graph,
        # which nothing here prevents: docs/extract.md says whose files to open.
        with weights_only():
            program = torch.export.load(path, extra_files=inside)
    finally:
        logger.setLevel(level)
    return Exported(program.module(), json.loads(inside[SPEC_FILE] or "{}"))


def _open_onnx(path: Path) -> Exported:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # else it takes all cores
    # Named, because a build for GPUs would choose one, and times would not compare.
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Exported(
        lambda image: torch.from_numpy(session.run(None, {"input": image.cpu().numpy()})[0]),
        session.get_modelmeta().custom_metadata_map,
    )


def _need_onnx() -> None:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f'ONNX needs {" and ".join(missing)}, not installed here: pip install "mmsn[export]"'
        )


def _write_onnx(
    program: Any, images: Tensor, free: dict[int, Any], spec: InferenceSpec, path: Path
) -> None:
    _fix_layouts(program.graph_module)
    written: Any = torch.onnx.export(
        program,
        (images,),
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=(free,),
        dynamo=True,
        verbose=False,
    )
    # Stack traces and paths of this machine.
    for node in written.model.graph.all_nodes():
        node.metadata_props.clear()
    written.model.metadata_props.update(spec.to_metadata())
    written.save(path)


def _fix_layouts(program: Any) -> None:
    """Give attention outputs one memory layout: with a bias, PyTorch's decompositions differ.

    ONNX has no layouts, so that this costs nothing there.
    """
    attention = torch.ops.aten.scaled_dot_product_attention.default
    for node in program.graph.find_nodes(op="call_function", target=attention):
        with program.graph.inserting_after(node):
            copied = program.graph.call_function(torch.ops.aten.contiguous.default, (node,))
        copied.meta["val"] = node.meta["val"].contiguous()
        # The copy itself keeps reading the original output.
        node.replace_all_uses_with(copied, delete_user_cb=lambda user, own=copied: user is not own)
    program.recompile()
