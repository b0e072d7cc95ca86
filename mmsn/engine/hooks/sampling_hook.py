"""Hook: draw the stitch that each training iteration runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook

from mmsn.checks import examine_run
from mmsn.engine.hooks.stitch_init_hook import StitchInitHook
from mmsn.errors import UserError
from mmsn.models import segmentor_macs, stitched_backbone
from mmsn.registry import HOOKS
from mmsn.stitching import budget_groups, default_step, draw_parts, resolve


@HOOKS.register_module()
class FLOPsConstrainedSamplingHook(Hook):
    """Draw the stitches of each training iteration: budgets first, then a stitch in each.

    Every batch is cut into ``parts``, and each part trains a stitch of its own: half of them the
    ends of the curve, the others stitches between, see ``mmsn.stitching.draw_parts``. A step
    costs as much as with one stitch, sees as many images, and its gradient does not depend on a
    single draw; docs/frontier.md has the measurement. ``parts=1`` is SN-Netv2's sampling.

    The draw depends on seed and iteration alone, so ranks agree without communication and a
    resumed run draws what an undisturbed one would. Drawn stitches exist in training mode only:
    evaluation runs the stitch that its user has set, also after an iteration that failed.

    Args:
        step: width of a budget group in GFLOPs (multiply-accumulates / 1e9). By default a third
            of what one unit more of the large anchor costs. Infinity makes one group, that is
            uniform draws, as in SN-Net.
        stitches: which to train, as ids or words; see ``mmsn.stitching.resolve``.
        parts: stitches per iteration; fewer where a batch has fewer images.
        seed: of the draws.
    """

    def __init__(
        self,
        step: float | None = None,
        stitches: str | int | Sequence[str | int] = "all",
        parts: int = 4,
        seed: int = 0,
    ) -> None:
        if parts < 1:
            raise UserError(f"parts {parts} is not allowed: give 1 or more stitches per iteration")
        self.step, self.stitches, self.parts, self.seed = step, stitches, parts, seed

    def before_run(self, runner: Any) -> None:
        """Find mistakes in the config before weights are loaded."""
        examine_run(runner)

    def before_train(self, runner: Any) -> None:
        """Count every stitch and form the groups."""
        self._backbone = stitched_backbone(runner.model)
        space = self._backbone.space
        if self._backbone.uninitialized and not _initializes(runner):
            runner.logger.warning(
                f"{len(self._backbone.uninitialized)} stitching layers are random, and W of each "
                "is frozen: add dict(type='mmsn.StitchInitHook') to custom_hooks"
            )
        self._macs = segmentor_macs(runner.model, self._backbone.img_size)
        chosen = {i: self._macs[i] for i in resolve(space, self._macs, self.stitches)}
        step = default_step(self._macs, space.ladder) if self.step is None else self.step * 1e9
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
        """Draw, and write what was drawn into the training log."""
        # The last batch of an epoch may be smaller. mmengine's samplers give all ranks batches of
        # one size, so their draws stay equal.
        parts = min(self.parts, len(data_batch["inputs"]))
        drawn = draw_parts(self.groups, self.seed, runner.iter, parts)
        self._backbone.set_training_stitches(drawn)
        if parts == 1:  # of several, no single id says what ran
            runner.message_hub.update_scalar("train/stitch", drawn[0])
        gflops = sum(self._macs[i] for i in drawn) / len(drawn) / 1e9
        runner.message_hub.update_scalar("train/gflops", gflops)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Forget the draw; training mode runs the stitch that its user has set again."""
        self._backbone.set_training_stitches(())


def _initializes(runner: Any) -> bool:
    return any(isinstance(hook, StitchInitHook) for hook in runner.hooks)
