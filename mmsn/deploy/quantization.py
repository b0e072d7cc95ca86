"""ONNX files with weights and activations of 8 bits.

Two ways to find the scales of activations. *Dynamic*: from every input as it comes, which needs no
images and costs a pass over each activation. *Static*: once, from the ranges that calibration
images give, which needs images like those of the application.

Both leave convolutions and the products of attention in float: ONNX Runtime's integer convolutions
are slower on CPUs. Left out on purpose: training with quantization.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

OPERATORS = ["MatMul", "Gemm"]  # linear layers
CONSTANT_SIDE = {"MatMulConstBOnly": True}  # not the products of attention


def quantize(
    source: str | Path, target: str | Path, windows: Sequence[np.ndarray] | None = None
) -> None:
    """Write an ONNX file anew with the weights of its linear layers in 8 bits, scaled per channel.

    Args:
        source: a file in float32.
        target: the new file.
        windows: normalized (1, 3, H, W) inputs that fix the scales of activations, as
            ``mmsn.deploy.calibration_windows`` gives them; None scales activations as they come.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    options: dict[str, Any] = dict(
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options=dict(CONSTANT_SIDE),
    )
    if windows is None:
        quantize_dynamic(source, target, **options)
        return
    quantize_static(
        str(source), str(target), _reader(windows), activation_type=QuantType.QUInt8, **options
    )


def _reader(windows: Sequence[np.ndarray]) -> Any:
    """The windows as ONNX Runtime's calibration asks for them: one by one, then None."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(windows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            window = next(self.left, None)
            return None if window is None else {"input": window}

    return Reader()
