"""Hook: labels that the head cannot take, named before they reach it.

Without it a label outside the classes is an IndexError deep in a loss, on a GPU an assertion of the
device that ends the process. Left out on purpose: maps of depth, whose gaps are part of the data.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models import unwrap
from mmsn.registry import HOOKS

IGNORED_SHARE = 0.5  # of a first batch; above it, reduce_zero_label should be checked


@HOOKS.register_module()
class LabelHook(Hook):
    """Check the labels of every training batch, on the CPU, before the model sees them.

    - A label outside the classes stops the run: image, label, what is allowed, and what to look at.
    - A first batch with few labels, or a crop with none, is named once.
    """

    def before_train(self, runner: Any) -> None:
        """Look up which labels the heads accept."""
        model = unwrap(runner.model)
        heads = [*_heads(model, "decode_head"), *_heads(model, "auxiliary_head")]
        # The head with the fewest classes decides what is allowed.
        self._classes = min((_classes(head) for head in heads), default=None)
        self._ignored = getattr(heads[0], "ignore_index", 255) if heads else None
        self._first, self._named_empty = True, False

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Check one batch."""
        samples = (data_batch or {}).get("data_samples", ())
        samples = [sample for sample in samples if "gt_sem_seg" in sample]
        if self._classes is None or not samples:
            return
        ignored = 0.0
        for sample in samples:
            labels = sample.gt_sem_seg.data
            check_labels(labels, self._classes, self._ignored, sample.metainfo)
            ignored += (labels == self._ignored).float().mean().item() / len(samples)
            if (labels == self._ignored).all() and not self._named_empty:
                self._named_empty = True
                runner.logger.warning(
                    f"iteration {runner.iter + 1}: the crop of {_name(sample.metainfo)} has no "
                    f"labels, every pixel is {self._ignored} (ignored); such crops teach nothing. "
                    "Said once: raise cat_max_ratio or the crop size if there are many"
                )
        if self._first and ignored > IGNORED_SHARE:
            reduced = samples[0].metainfo.get("reduce_zero_label")
            hint = (
                "reduce_zero_label=True ignores label 0, set it to False if 0 is a class"
                if reduced
                else f"check that {self._ignored} stands for unlabeled in these files"
            )
            runner.logger.warning(f"{ignored:.0%} of the first batch's pixels are ignored: {hint}")
        self._first = False


def check_labels(
    labels: Tensor, classes: int, ignored: int | None, metainfo: dict[str, Any]
) -> None:
    """Refuse labels outside the classes.

    Args:
        labels: (1, H, W) integers.
        classes: labels 0 to ``classes - 1`` are allowed.
        ignored: one more label that is allowed.
        metainfo: of the sample: its path, and whether ``reduce_zero_label`` holds.

    Raises:
        UserError: a label that the head cannot take.
    """
    outside = (labels < 0) | (labels >= classes)
    if ignored is not None:
        outside &= labels != ignored
    if not outside.any():
        return
    found = torch.unique(labels[outside]).tolist()
    shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    fix = "set num_classes of every head to the dataset's, or correct the files"
    if found == [classes] and not metainfo.get("reduce_zero_label"):
        fix = (
            f"if 0 stands for unlabeled and 1 to {classes} for the classes, set "
            "reduce_zero_label=True in dataset and LoadAnnotations; else " + fix
        )
    elif found == [255] and ignored != 255:
        fix = f"255 usually stands for unlabeled, and ignore_index is {ignored}: make them agree"
    raise UserError(
        f"label {shown} in {_name(metainfo)} is outside 0 to {classes - 1}"
        f"{'' if ignored is None else f' and is not {ignored} (ignored)'}: {fix}"
    )


def _heads(model: nn.Module, name: str) -> list[Any]:
    head = getattr(model, name, None)
    heads = head if isinstance(head, nn.ModuleList) else [head]
    return [head for head in heads if hasattr(head, "num_classes")]


def _classes(head: Any) -> int:
    # One channel and a threshold tell two classes apart.
    return max(head.num_classes, 2 if getattr(head, "out_channels", None) == 1 else 1)


def _name(metainfo: dict[str, Any]) -> str:
    return repr(metainfo.get("seg_map_path") or metainfo.get("img_path", "an unnamed image"))
