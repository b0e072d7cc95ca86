"""Hook: draw the stitch that each training iteration runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook

from mmsn.engine.hooks.stitch_init_hook import StitchInitHook
from mmsn.engine.iterations import after_each_iteration
from mmsn.models import segmentor_macs, stitched_backbone
from mmsn.registry import HOOKS
from mmsn.stitching import Stitch, budget_groups, default_step, draw, resolve


@HOOKS.register_module()
class FLOPsConstrainedSamplingHook(Hook):
    """Draw a budget group, then a stitch in it, before each training iteration.

    The draw depends on seed and iteration alone, so ranks agree without talking and a resumed run
    draws what an undisturbed one would. Once the iteration is over, the backbone runs again the
    stitch that its user has set: evaluation never sees a drawn one.

    Args:
        step: width of a budget group in GFLOPs (multiply-accumulates / 1e9). By default a third
            of what one unit more of the large anchor costs.
        stitches: which to train, as ids or words; see ``mmsn.stitching.resolve``.
        seed: of the draws.
    """

    def __init__(
        self,
        step: float | None = None,
        stitches: str | int | Sequence[str | int] = "all",
        seed: int = 0,
    ) -> None:
        self.step, self.stitches, self.seed = step, stitches, seed

    def before_train(self, runner: Any) -> None:
        """Count every stitch and form the groups."""
        self._backbone = stitched_backbone(runner.model)
        self._chosen_by_user: Stitch = self._backbone.stitch
        after_each_iteration(runner, self._give_back)
        space = self._backbone.space
        if self._backbone.uninitialized and not _initializes(runner):
            runner.logger.warning(
                f"{len(self._backbone.uninitialized)} stitching layers are random, and W of each "
                "is frozen: add dict(type='mmsn.StitchInitHook') to custom_hooks"
            )
        self._macs = segmentor_macs(runner.model, self._backbone.img_size)
        chosen = {i: self._macs[i] for i in resolve(space, self._macs, self.stitches)}
        units = sum(space.units(pair) for pair in range(len(space.depths) - 1))
        step = default_step(self._macs, units) if self.step is None else self.step * 1e9
        self.groups = budget_groups(chosen, step)
        lines = [
            f"{self._macs[group[0]] / 1e9:.4g}-{self._macs[group[-1]] / 1e9:.4g} G: {len(group)}"
            for group in self.groups
        ]
        runner.logger.info(
            f"Sampling {len(chosen)} stitches in {len(self.groups)} budget groups "
            f"(GFLOPs, as multiply-accumulates, at {self._backbone.img_size}): {', '.join(lines)}"
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the drawn stitch and write it into the training log."""
        drawn = draw(self.groups, self.seed, runner.iter)
        self._chosen_by_user = self._backbone.stitch
        self._backbone.set_stitch(drawn)
        runner.message_hub.update_scalar("train/stitch", drawn)
        runner.message_hub.update_scalar("train/gflops", self._macs[drawn] / 1e9)

    def _give_back(self) -> None:
        """Leave the backbone as its user left it, also after an exception."""
        self._backbone.set_stitch(self._chosen_by_user.id)


def _initializes(runner: Any) -> bool:
    return any(isinstance(hook, StitchInitHook) for hook in runner.hooks)
