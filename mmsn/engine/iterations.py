"""Cleaning up after each training iteration, also one that ends in an exception or Ctrl-C.

mmengine calls ``after_train_iter`` only where the iteration ends well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def after_each_iteration(runner: Any, clean_up: Callable[[], None]) -> None:
    """Call ``clean_up`` at the end of every iteration of this training, whatever ends it.

    For ``before_train`` of a hook; the hook's ``after_train_iter`` has been called by then. It
    holds for this runner's training loop, once for each call of this function.
    """
    loop = runner.train_loop
    run_iter = loop.run_iter

    def run_and_clean_up(*args: Any, **kwargs: Any) -> Any:
        try:
            return run_iter(*args, **kwargs)
        finally:
            clean_up()

    loop.run_iter = run_and_clean_up
