"""Hook: count what a training costs, so that methods can be compared at equal compute."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mmsn.errors import UserError
from mmsn.models import step_macs, stitched_backbone
from mmsn.registry import HOOKS

# The entry of a checkpoint's ``meta`` and of the message hub.
TRAINING_COST = "mmsn_training"


@HOOKS.register_module()
class TrainingCostHook(Hook):
    """Count multiply-accumulates of all forward and backward passes, and images.

    The counts are logged as ``train/tmacs``, travel in every checkpoint, continue when a run is
    resumed, and stand in the report of a test. A run that is resumed from a checkpoint without
    counts is not counted. An image that a step runs through one stitch costs three forward passes
    of that stitch at the backbone's ``img_size``: backbone, neck and heads, auxiliary heads
    included. Frozen anchors are counted like trained ones, so for them the count is an upper bound;
    what ``with_cp`` computes again is not counted. Both passes of a label-assisted teacher count,
    and so does the teacher's forward pass in the training of a student.

    Args:
        before_macs: what the weights cost that the training starts from, for example the
            training of an anchor alone, the distillation of its child, or the training of a
            student's teacher.
        before_images: the images that it took.
    """

    priority = "LOW"  # after the hook that draws the stitches of the iteration

    def __init__(self, before_macs: float = 0, before_images: int = 0) -> None:
        if before_macs < 0 or before_images < 0:
            raise UserError(
                f"before_macs {before_macs} and before_images {before_images} are not allowed: "
                "give what the starting weights cost, 0 or more"
            )
        self._before = dict(train_macs=int(before_macs), images_seen=int(before_images))

    def before_train(self, runner: Any) -> None:
        """Count one image through each stitch; checkpoints are loaded by now."""
        self._backbone = stitched_backbone(runner.model)
        self._macs = step_macs(runner.model, self._backbone.img_size)
        self._count: dict[str, Any] | None = dict(self._before)
        if runner._resume and runner.iter:  # an empty folder may be "resumed", too
            self._count = runner.message_hub.get_info(TRAINING_COST)
            if self._count is None:
                # A count of the rest alone would make the training look cheap.
                runner.logger.warning(
                    f"The checkpoint of iteration {runner.iter} holds no training cost, so this "
                    "training is not counted: start it again if its report is to state the cost"
                )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Add what the iteration is about to cost on all ranks."""
        if self._count is None:
            return
        stitches = self._backbone.training_stitches
        images = len(data_batch["inputs"])
        # As ``Tensor.tensor_split`` cuts: the first parts get the images that are left over.
        share, rest = divmod(images, len(stitches))
        macs = sum(
            self._macs[stitch.id] * (share + (part < rest)) for part, stitch in enumerate(stitches)
        )
        self._count["train_macs"] += macs * get_world_size()
        self._count["images_seen"] += images * get_world_size()
        runner.message_hub.update_scalar("train/tmacs", self._count["train_macs"] / 1e12)
        runner.message_hub.update_info(TRAINING_COST, dict(self._count))

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Store the counts with the weights."""
        if self._count is None:
            return
        seed = runner.seed if isinstance(runner.seed, int) else None
        checkpoint["meta"][TRAINING_COST] = dict(self._count, seed=seed)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Restore the counts of the loaded weights, for a report or to continue counting."""
        found = checkpoint.get("meta", {}).get(TRAINING_COST)
        if found is not None:
            runner.message_hub.update_info(TRAINING_COST, dict(found))
