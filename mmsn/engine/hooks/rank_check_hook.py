"""Hook: refuse ranks that were started differently.

The stitch of an iteration is a function of its number, of a seed and of the budget groups, so ranks
agree without communication as long as these are equal. This hook checks that they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook

from mmsn.errors import UserError
from mmsn.registry import HOOKS

# What must be the same on every rank; paths may differ from machine to machine.
SECTIONS = (
    "model",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "custom_hooks",
    "randomness",
    "auto_scale_lr",
)


def refuse_differences(facts: Mapping[str, Any]) -> None:
    """Compare named values over all ranks.

    Args:
        facts: each value by its name; compared by ``repr``.

    Raises:
        UserError: on every rank, if a value differs on any.
    """
    if get_world_size() < 2:
        return
    # A digest, because budget groups and configs are long; its beginning, for the message.
    mine = {name: (_digest(value), repr(value)[:60]) for name, value in facts.items()}
    everyone = all_gather_object(mine)
    for name in dict.fromkeys(name for theirs in everyone for name in theirs):
        values = [theirs.get(name) for theirs in everyone]
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            first, second = ("nothing" if v is None else v[1] for v in (values[0], values[other]))
            raise UserError(
                f"rank {other} was started with another {name} than rank 0 ({second} instead of "
                f"{first}): start every rank with the same config and options"
            )


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


@HOOKS.register_module()
class RankCheckHook(Hook):
    """Compare config, seed, sampling and iteration over ranks, once before training starts."""

    priority = "VERY_LOW"  # after the sampling hook has formed its groups

    def before_train(self, runner: Any) -> None:
        """Compare."""
        facts: dict[str, Any] = {}  # the most informative first: the first difference is named
        for hook in runner.hooks:
            if hasattr(hook, "groups") and hasattr(hook, "seed"):  # draws stitches
                kind = type(hook).__name__
                facts |= {f"seed of {kind}": hook.seed, f"budget groups of {kind}": hook.groups}
        facts |= {"random seed": runner.seed, "iteration to start from": runner.iter}
        facts["batch_size"] = (runner.cfg.get("train_dataloader") or {}).get("batch_size")
        facts |= {section: runner.cfg.get(section) for section in SECTIONS}
        refuse_differences(facts)
