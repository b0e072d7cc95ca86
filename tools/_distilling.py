"""Training a child while its progress shows, and writing it; for the commands that distill.

What a child is, its losses and the file from which an interrupted training continues are
``mmsn.shrink``'s.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mmsn.shrink import Distillation, UnlabeledImages


def train(
    distillation: Distillation,
    images: UnlabeledImages,
    state_file: Path,
    args: argparse.Namespace,
    measure: str = "loss",
) -> None:
    """Train from the present step to the last, with a bar, or with lines where there is no
    terminal.

    Args:
        args: with ``save_every``, after how many steps ``state_file`` is written and a line is
            printed, and ``workers``, the number of processes that read images.
        measure: what the number is that ``distillation`` gives for each step.
    """
    from rich.progress import MofNCompleteColumn, Progress, TextColumn

    columns = (
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[value]}"),
    )
    steps = distillation.settings.steps
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("distilling", total=steps, completed=distillation.step, value="")

        def show(step: int, loss: float) -> None:
            value = f"{measure} {loss:.4f}"
            progress.update(task, completed=step, value=value)
            # A log file gets no bar, and would otherwise be empty for hours.
            if not progress.console.is_terminal and step % args.save_every == 0:
                print(f"step {step} of {steps}: {value}", flush=True)

        distillation.run(images, state_file, args.save_every, args.workers, show)


def write_weights(file: Path, tensors: Mapping[str, Tensor], **notes: str) -> None:
    """Write tensors whole or not at all as safetensors, with texts for the file's metadata."""
    import safetensors.torch

    from mmsn.files import write_bytes

    # Copies, because shared memory cannot be stored.
    whole = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    write_bytes(file, safetensors.torch.save(whole, {"format": "pt", **notes}))
