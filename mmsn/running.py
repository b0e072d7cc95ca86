"""Making the Runner of a command: its config is examined first, and its console says what matters.

The log file keeps everything.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmsn.checks import examine, warn
from mmsn.errors import MissingFile
from mmsn.models.opening import without_advice_on_losses

# How messages begin, apart from white space, that fill screens before the first iteration.
LONG = (
    "Config:",
    "------------------------------------------------------------\nSystem environment",
    "Hooks will be executed in the following order",
    "Name of parameter - Initialization information",
    "paramwise_options",
)
# Warnings of mmengine that need no action: weights that are frozen on purpose, its own old names,
# metrics without a prefix, and SyncBN in a run of one process.
POINTLESS = (
    "is skipped since its requires_grad=False",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "The prefix is not set in metric class",
    "automatically reverted to BatchNormXd layers",
)


def make_runner(config: Config, training: bool) -> Runner:
    """The Runner of a config: that of ``runner_type``, else a ``QuietRunner``.

    Raises:
        UserError: the config has mistakes; see ``mmsn.checks``.
    """
    findings = examine(config, training)
    findings.refuse()
    runner = RUNNERS.build(config) if "runner_type" in config else QuietRunner.from_cfg(config)
    warn(runner, findings)
    return runner


class QuietRunner(Runner):
    """mmengine's Runner with a short console, and with one line for a missing dataset.

    Modifications of ``Runner``: environment, config, list of hooks, options of parameters and
    warnings without a remedy go to the log file alone, and mmseg's on losses and drawing nowhere; a
    folder that a dataset does not find is a ``UserError``.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The usual logger, its console handlers filtered."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(self.is_shown)
        return logger

    @staticmethod
    def is_shown(record: logging.LogRecord) -> bool:
        """Is this a message for the console?"""
        message = record.getMessage().lstrip()
        return not message.startswith(LONG) and not any(part in message for part in POINTLESS)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """The usual model."""
        with without_advice_on_losses():
            return super().build_model(model)

    def register_hook(self, *args: Any, **kwargs: Any) -> None:
        """As usual; that a visualization hook draws nothing unless it is told to is no warning."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The draw is False")
            super().register_hook(*args, **kwargs)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """The usual loader.

        Raises:
            MissingFile: a file or folder of the dataset does not exist.
        """
        try:
            return Runner.build_dataloader(dataloader, *args, **kwargs)
        except MissingFile:
            raise  # of a dataset of this package, which says how to make it
        except FileNotFoundError as error:
            # Only data is looked for here, so the path comes from the config.
            raise MissingFile(
                f"dataset: {error.filename or error} does not exist: make the dataset, or set "
                "data_root"
            ) from error
