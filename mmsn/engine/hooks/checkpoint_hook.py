"""Hook: save checkpoints so that a kill at any moment leaves one to continue from.

Left out on purpose: random states. Draws of stitches need none; see ``mmsn.stitching.sampling``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from mmsn.engine.accumulation import is_accumulating, optim_wrappers
from mmsn.engine.resume import latest_checkpoint
from mmsn.errors import UserError
from mmsn.files import remove_leftovers, write_bytes, write_text
from mmsn.registry import HOOKS

BACKEND = "mmsn_whole_file"


@register_backend(BACKEND, force=True)
class WholeFileBackend(LocalBackend):
    """mmengine's access to local files.

    Modifications of ``LocalBackend``: a file is written whole or not at all, and reaches the disk.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        write_bytes(filepath, obj)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """Save checkpoints periodically, with at least one whole one on disk from the first save on.

    Modifications of ``CheckpointHook``, whose arguments it takes:

    - A checkpoint and ``last_checkpoint`` are written beside their names, synced and then renamed.
    - Older checkpoints, and the former best one, are removed only after that.
    - With gradient accumulation, a save that is due in the middle of a step waits for the end of
      the step: a checkpoint does not hold accumulated gradients.
    - ``resume=True`` without ``load_from`` continues from the newest checkpoint that is whole.
    """

    # What the base class sets without a type.
    file_backend: Any
    keep_ckpt_ids: deque[int]
    last_ckpt: str | None
    backend_args: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A remote folder, or a backend of the user, keeps its own way of writing.
        local = "://" not in str(self.out_dir or "")
        if local and self.file_client_args is None and self.backend_args is None:
            self.backend_args = dict(backend=BACKEND)
        self._is_overdue = False  # a save waits for the end of an optimizer step

    def before_run(self, runner: Any) -> None:
        """Choose what to resume from, before mmengine does."""
        if not runner._resume or runner._load_from is not None:
            return
        latest = latest_checkpoint(runner.work_dir, self.filename_tmpl, self._folder(runner))
        if latest is None:
            runner._resume = False  # else mmengine would follow an empty last_checkpoint
            runner.logger.info(f"No checkpoint in {runner.work_dir}: a new training starts")
        runner._load_from = latest

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Refuse to resume from weights alone."""
        # Without these, mmengine would fail later with a KeyError.
        missing = {"meta", "message_hub"} - checkpoint.keys()
        if runner._resume and missing:
            raise UserError(
                f"{runner._load_from!r} has no {', '.join(sorted(missing))}, so training cannot "
                "resume from it: give it as load_from, with resume=False, to begin from its weights"
            )

    def before_train(self, runner: Any) -> None:
        """Prepare the folder, and say once when saves and optimizer steps do not coincide."""
        super().before_train(runner)
        if is_main_process():
            remove_leftovers(self.out_dir, self.filename_tmpl.format("*"))
            remove_leftovers(runner.work_dir, "last_checkpoint")
        counts = max(w._accumulative_counts for w in optim_wrappers(runner.optim_wrapper))
        if self.by_epoch:
            if len(runner.train_dataloader) % counts:
                runner.logger.warning(
                    f"An epoch of {len(runner.train_dataloader)} batches ends in the middle of an "
                    f"optimizer step of accumulative_counts={counts}: a run that resumes there "
                    "lacks the gradients of the last batches"
                )
        elif self.interval > 0 and self.interval % counts:
            runner.logger.info(
                f"Checkpoint interval {self.interval} is not a multiple of accumulative_counts="
                f"{counts}: checkpoints are saved after the next whole optimizer step"
            )

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save where an interval or the training ends."""
        if self.by_epoch:
            return
        is_last = self.save_last and self.is_last_train_iter(runner)
        if self.every_n_train_iters(runner, self.interval, self.save_begin):
            self._is_overdue = True
        if is_last or (self._is_overdue and not is_accumulating(runner.optim_wrapper)):
            runner.logger.info(f"Saving checkpoint at {runner.iter + 1} iterations")
            self._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        is_last = not self.by_epoch and step >= runner.max_iters
        if not self.by_epoch and not is_last and is_accumulating(runner.optim_wrapper):
            self._is_overdue = True  # a new best one, found by a validation within a step
            return
        self._is_overdue = False
        outdated = self._keep(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        self._save(
            runner,
            filename=name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        if not is_main_process():
            return
        write_text(Path(runner.work_dir, "last_checkpoint"), str(self.last_ckpt))
        self._remove(self.file_backend.join_path(self.out_dir, n) for n in outdated)

    def _keep(self, runner: Any, step: int) -> list[str]:
        """Count a checkpoint among those to keep; returns the names of those that it displaces."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        steps = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        # With those to be removed: if a kill comes first, the run that resumes removes them.
        runner.message_hub.update_info("keep_ckpt_ids", steps)
        return [self.filename_tmpl.format(old) for old in steps[: -self.max_keep_ckpts]]

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:  # then a validation without training has no backend either
            return
        backend = self.file_backend
        # The base class removes the former best checkpoint before it saves the new one.
        self.file_backend = later = _RemovesLater(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = [getattr(self, "best_ckpt_path", None)]
        best += getattr(self, "best_ckpt_path_dict", {}).values()
        self._remove(path for path in later.paths if path not in (*best, self.last_ckpt))

    def _save(self, runner: Any, **options: Any) -> None:
        try:
            runner.save_checkpoint(
                self.out_dir,
                file_client_args=self.file_client_args,
                backend_args=self.backend_args,
                **options,
            )
        except OSError as error:
            raise UserError(
                f"checkpoint {options['filename']!r} could not be written to {self.out_dir!r} "
                f"({error.strerror or error}): earlier ones are untouched; make room and resume"
            ) from error

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # saved by DeepSpeed
                self.file_backend.rmtree(path)

    def _folder(self, runner: Any) -> Path:
        """Where checkpoints are, also before ``before_train`` has determined it."""
        if self.out_dir is None:
            return Path(runner.work_dir)
        return Path(self.out_dir) / Path(runner.work_dir).name


class _RemovesLater:
    """A file backend that only records what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Record a file or folder."""
        self.paths.append(path)

    rmtree = remove
