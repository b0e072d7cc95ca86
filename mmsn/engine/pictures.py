"""Pictures of what several stitches predict, each named after its stitch.

mmseg's ``SegVisualizationHook`` names pictures after images, so those of several stitches would
overwrite each other. Left out on purpose: drawing, which is the hook's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from mmseg.engine.hooks import SegVisualizationHook


class StitchPictures:
    """Lets the visualization hooks of a Runner draw once for every stitch.

    Args:
        runner: whose hooks draw.
        mode: which of their methods to call.
        several: is more than one stitch evaluated? If not, hooks draw as they always do.
    """

    def __init__(self, runner: Any, mode: Literal["val", "test"], several: bool) -> None:
        self._runner, self._point = runner, f"after_{mode}_iter"
        hooks = runner.hooks if several else ()
        self._hooks = [h for h in hooks if isinstance(h, SegVisualizationHook) and h.draw]
        # Only the forks' hook counts images; the original's names hold the iteration instead.
        self._counts = [getattr(hook, "_test_index", None) for hook in self._hooks]

    def save(self, stitch_id: int, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        """Draw the predictions of one stitch."""
        for hook, count in zip(self._hooks, self._counts, strict=True):
            if count is not None:
                hook._test_index = count  # part of names: the same for all stitches of an image
            plain = hook._visualizer
            hook._visualizer = _Named(plain, f"stitch{stitch_id}_")
            try:
                getattr(hook, self._point)(self._runner, batch_idx, data_batch, outputs)
            finally:
                hook._visualizer = plain

    @contextmanager
    def saved(self) -> Iterator[None]:
        """For the block in which all hooks are called as usual: these ones have drawn already."""
        for hook in self._hooks:
            hook.draw = False
        try:
            yield
        finally:
            for hook in self._hooks:
                hook.draw = True


class _Named:
    """A visualizer whose pictures are named after a stitch."""

    def __init__(self, visualizer: Any, prefix: str) -> None:
        self._visualizer, self._prefix = visualizer, prefix

    def __getattr__(self, name: str) -> Any:
        return getattr(self._visualizer, name)

    def add_datasample(self, name: str, *args: Any, **kwargs: Any) -> None:
        """As the visualizer's own, under another name."""
        self._visualizer.add_datasample(self._prefix + name, *args, **kwargs)
