"""The benchmark of a whole stitching space: every stitch on every image, and a report.

What stitches share runs once per batch, finished images are on disk after every chunk, and a run
that was cut off continues. Images are split over ranks as mmengine's samplers split them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import barrier, broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.runner import TestLoop
from rich.progress import Progress, TimeRemainingColumn
from torch.utils.data import RandomSampler

from mmsn.engine.chunks import (
    ChunkStore,
    FolderLock,
    Results,
    fingerprint_of_data,
    fingerprint_of_model,
)
from mmsn.engine.loops import StitchLoop, quiet
from mmsn.engine.run_report import keep_older, make_report, metrics_so_far
from mmsn.errors import UserError
from mmsn.evaluation.curve import frontier
from mmsn.evaluation.latency import measure_latency
from mmsn.evaluation.report import ParetoReport, software_versions
from mmsn.evaluation.tables import text_table
from mmsn.files import sha256_of
from mmsn.models import stitched_backbone
from mmsn.registry import LOOPS
from mmsn.stitching.selection import StitchNames


@LOOPS.register_module()
class ParetoTestLoop(StitchLoop, TestLoop):
    """Test of many stitches, with a report of accuracy against FLOPs.

    Modifications of ``TestLoop``: each batch goes through every stitch in ``stitches``, by default
    all of the space. ``pareto.json`` and ``pareto.csv`` in the run's folder receive id, kind,
    segments, FLOPs, parameters and metrics of each; ``pareto.partial.json`` can be read meanwhile.
    An earlier run's ``pareto.json`` is kept as ``pareto.1.json`` and so on.

    Args:
        args: as ``TestLoop``.
        stitches: ids or words; see ``mmsn.stitching.resolve``.
        budgets: such as "400G" or "50%"; see ``mmsn.deploy.parse_budget``. Each adds the most
            expensive stitch that it allows.
        latency: which stitches to time on this machine afterward: "none", those of the
            "frontier", or "all".
        chunk: images per rank after which results go to disk. The same call continues there. 0
            keeps nothing, for metrics whose results are not plain data.
        kwargs: as ``TestLoop``.
    """

    def __init__(
        self,
        *args: Any,
        stitches: StitchNames = "all",
        budgets: Sequence[str] = (),
        latency: Literal["none", "frontier", "all"] = "none",
        chunk: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if chunk < 0:
            raise UserError(
                f"chunk {chunk} is not allowed: give 1 image or more, or 0 to save nothing before "
                "the end"
            )
        if latency not in ("none", "frontier", "all"):
            raise UserError(f"latency {latency!r} is unknown: use 'none', 'frontier' or 'all'")
        self.stitches, self.budgets = stitches, budgets
        self.latency, self.chunk = latency, chunk
        self.report_path: Path | None = None  # on rank 0, once it is written

    def run(self) -> dict:
        """Test; returns the flat metrics and writes the report."""
        with one_rank_first(FolderLock(Path(self.runner.work_dir))):
            return self._run()

    def _run(self) -> dict:
        self.prepare(self.budgets)
        self._checkpoint_sha256 = sha256_of(self.runner.cfg.get("load_from"))
        self._store = ChunkStore(
            Path(self.runner.work_dir) / "partial", self._identity(), get_rank()
        )
        chunks = self._store.load(self.evaluator.by_id)
        # Results go where metrics keep them, as if these images had just been evaluated.
        for results in chunks:
            for stitch, per_metric in results.items():
                metrics = self.evaluator.by_id[stitch].metrics
                for metric, entries in zip(metrics, per_metric, strict=True):
                    metric.results.extend(entries)
        self._batches_per_chunk = max(1, self.chunk // (self.dataloader.batch_size or 1))
        # The last chunk may be shorter than the others.
        self._batches_done = min(len(chunks) * self._batches_per_chunk, len(self.dataloader))
        self._saved = self._counts()  # of results per metric that are on disk
        if chunks:
            self.runner.logger.info(
                f"Continuing after {len(chunks)} chunks of {self._batches_per_chunk} batches"
            )
        if self._store.others():
            self.runner.logger.warning(
                f"{self._store.root} holds an unfinished benchmark of another checkpoint, config, "
                "list of stitches or state of the data: it is not used, and removed when this one "
                "has finished"
            )
        if stitched_backbone(self.runner.model).uninitialized:
            self.runner.logger.warning(
                "Some stitching layers are random: neither least squares nor the checkpoint "
                "has filled them"
            )
        columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn())
        self._progress = Progress(*columns, disable=not is_main_process(), transient=True)
        self._task = self._progress.add_task("stitches", total=len(self.dataloader))
        if self._progress.console.is_terminal:  # elsewhere the log shows the time left
            self._progress.start()
        try:
            flat = super().run()
        finally:
            self._progress.stop()
        if is_main_process():
            self._finish()
        # No rank may remove its chunks before the report is written.
        barrier()
        self._store.remove()  # on every rank: it may have a disk of its own
        barrier()
        if self.report_path is not None and self.latency != "none":
            self._time(self.report_path)  # after the barrier: no rank waits for it
        return flat

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run every stitch on one batch, unless an earlier run has done so."""
        self._progress.advance(self._task)
        if idx < self._batches_done:
            return
        self.run_batch("test", idx, data_batch)
        is_full = (idx + 1) % self._batches_per_chunk == 0 or idx + 1 == len(self.dataloader)
        if self.chunk and is_full:
            self._finish_chunk(idx // self._batches_per_chunk)

    def _finish_chunk(self, number: int) -> None:
        results: Results = {
            stitch: [
                # Metrics keep everything; new is what came after the last chunk.
                metric.results[start:]
                for metric, start in zip(evaluator.metrics, self._saved[stitch], strict=True)
            ]
            for stitch, evaluator in self.evaluator.by_id.items()
        }
        self._store.save(number, results)
        self._saved = self._counts()
        if is_main_process():
            self._report_so_far(number + 1)

    def _report_so_far(self, chunks: int) -> None:
        of_images = len(self.dataloader.dataset)
        batch = (self.dataloader.batch_size or 1) * get_world_size()
        # Samplers repeat images so that all ranks have equally many.
        images = min(of_images, chunks * self._batches_per_chunk * batch)
        try:
            with quiet():  # tables per class and stitch, after every chunk
                so_far = {i: metrics_so_far(e) for i, e in self.evaluator.by_id.items()}
        except Exception as error:  # of any metric, which may need all images
            self.runner.logger.info(f"No figures yet: {type(error).__name__}: {error}")
            return
        report = self._report(so_far, {}, images, of_images)
        report.save(Path(self.runner.work_dir) / "pareto.partial.json")

    def _finish(self) -> None:
        """Write the report, and remove the partial one."""
        folder, size = Path(self.runner.work_dir), len(self.dataloader.dataset)
        results, ious = self.evaluator.results, self.evaluator.class_iou
        report = self._report(results, ious, size, size)
        if all(result.metrics for result in report.stitches):
            self.report_path = folder / "pareto.json"
            kept = keep_older(self.report_path)
            if kept is not None:
                self.runner.logger.info(f"The report of an earlier run is now {kept}")
            self._save(report, self.report_path)
            self.runner.logger.info(f"Wrote {self.report_path}\n{text_table(report)}")
        else:
            self.runner.logger.info("No metrics were computed, so there is no report")
        (folder / "pareto.partial.json").unlink(missing_ok=True)

    def _time(self, path: Path) -> None:
        """Add latencies to the report that was written."""
        report = ParetoReport.load(path)
        timed = report.stitches
        if self.latency == "frontier":
            timed = frontier(timed, report.default_metric())
        self.runner.logger.info(f"Timing {len(timed)} stitches")
        ids = [result.id for result in timed]
        latencies, setting = measure_latency(
            self.runner.model, ids, report.image_size, autocast=self.fp16
        )
        stitches = [
            result.model_copy(update=dict(latency=latencies.get(result.id)))
            for result in report.stitches
        ]
        update = dict(latency_setting=setting, stitches=stitches)
        self._save(report.model_copy(update=update), path)

    def _save(self, report: ParetoReport, path: Path) -> None:
        report.save(path)
        report.save_csv(path.with_suffix(".csv"))

    def _report(
        self,
        results: Mapping[int, Mapping[str, float]],
        class_iou: Mapping[int, list[float] | None],
        images: int,
        of_images: int,
    ) -> ParetoReport:
        digest = self._checkpoint_sha256
        return make_report(self.runner, results, class_iou, images, of_images, digest)

    def _counts(self) -> dict[int, list[int]]:
        return {i: [len(m.results) for m in e.metrics] for i, e in self.evaluator.by_id.items()}

    def _identity(self) -> dict[str, Any]:
        """Everything that the results of a chunk depend on.

        Raises:
            UserError: a loader that shuffles; which images are finished would be unknown.
        """
        cfg = self.runner.cfg
        sampler = getattr(self.dataloader, "sampler", None)
        if getattr(sampler, "shuffle", False) or isinstance(sampler, RandomSampler):
            raise UserError(
                "test_dataloader shuffles its images: set sampler=dict(type='DefaultSampler', "
                "shuffle=False)"
            )
        return dict(
            model=cfg.get("model"),
            weights=fingerprint_of_model(self.runner.model),
            checkpoint=[str(cfg.get("load_from")), self._checkpoint_sha256],
            # Hooks may change what the model computes.
            hooks=cfg.get("custom_hooks"),
            dataloader=cfg.get("test_dataloader"),
            data=fingerprint_of_data(self.dataloader.dataset),
            evaluator=cfg.get("test_evaluator"),
            stitches=list(self.evaluator.by_id),
            chunk=self.chunk,
            fp16=self.fp16,
            # Another number of ranks splits the images differently.
            ranks=get_world_size(),
            software=software_versions(),
        )


@contextmanager
def one_rank_first(lock: FolderLock) -> Iterator[None]:
    """Hold a lock on rank 0; the others start once it has it, or stop because it has not.

    Raises:
        UserError: on every rank, with the reason.
    """
    refused: list[str | None] = [None]
    with ExitStack() as stack:
        if is_main_process():
            try:
                stack.enter_context(lock)
            except UserError as error:
                refused = [str(error)]
        broadcast_object_list(refused)
        if refused[0] is not None:
            raise UserError(refused[0])
        yield
