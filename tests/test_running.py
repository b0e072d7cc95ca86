"""What a Runner of the commands shows on the console."""

import logging

import pytest
from mmengine.config import Config
from mmengine.visualization import Visualizer
from mmseg.models.losses import CrossEntropyLoss

from mmsn.errors import MissingFile
from mmsn.models import build
from mmsn.running import QuietRunner, make_runner
from tests.deploy.tiny import tiny_config


def record(message):
    return logging.LogRecord("mmengine", logging.INFO, "file.py", 1, message, (), None)


@pytest.mark.parametrize(
    "message",
    [
        "Config:\nmodel = dict()",
        "Hooks will be executed in the following order:\nbefore_run:",
        "paramwise_options -- backbone.x:lr=0.1",
        f"\n{'-' * 60}\nSystem environment:\n    sys.platform: linux",
        "backbone.stitching_layers.0_to_1_after_0.weight is skipped since its requires_grad=False",
        "The prefix is not set in metric class IoUMetric.",
        "Distributed training is not used, all SyncBatchNorm (SyncBN) layers in the model will be "
        "automatically reverted to BatchNormXd layers if they are used.",
        "\nName of parameter - Initialization information\n\nbackbone.x - torch.Size([3])",
    ],
)
def test_long_messages_go_to_the_file_alone(message):
    assert not QuietRunner.is_shown(record(message))


@pytest.mark.parametrize("message", ["Iter(train) [1/2]", "Wrote pareto.json\n| a | b |", "\n+--+"])
def test_others_reach_the_console(message):
    assert QuietRunner.is_shown(record(message))


def test_only_console_handlers_are_filtered(tmp_path):
    runner = QuietRunner.__new__(QuietRunner)
    runner._experiment_name, runner._log_dir, runner._timestamp = "quiet", str(tmp_path), "1"
    logger = runner.build_logger(log_level="INFO", log_file=str(tmp_path / "1.log"))
    filtered = {
        isinstance(h, logging.FileHandler): runner.is_shown in h.filters for h in logger.handlers
    }
    assert filtered == {False: True, True: False}


def test_a_missing_folder_of_a_dataset_is_one_line(tmp_path):
    """mmseg's own datasets leave it to the first ``os.scandir``."""
    folders = dict(img_path="images/training", seg_map_path="annotations/training")
    dataset = dict(type="mmseg.ADE20KDataset", data_root=str(tmp_path), data_prefix=folders)
    loader = dict(dataset=dataset, batch_size=1, sampler=dict(type="DefaultSampler"))
    with pytest.raises(MissingFile, match=r"images/training does not exist: .* set data_root"):
        QuietRunner.build_dataloader(loader)


def test_building_a_model_repeats_no_advice_on_losses(recwarn):
    """The published recipes average over ignored pixels, too."""
    build(tiny_config())  # also sets the scope in which a Runner builds
    model = QuietRunner.__new__(QuietRunner).build_model(tiny_config().model)
    assert model.decode_head.loss_decode.avg_non_ignore is False
    assert not [w for w in recwarn if "avg_non_ignore" in str(w.message)]
    CrossEntropyLoss()
    assert [w for w in recwarn if "avg_non_ignore" in str(w.message)]  # mmseg has not changed it


def test_the_class_of_the_config_is_taken():
    from mmengine.registry import RUNNERS

    @RUNNERS.register_module()
    class CustomRunner:
        def __init__(self, cfg):
            self.logger, self.model = logging.getLogger("x"), cfg["model"]

        @classmethod
        def from_cfg(cls, cfg):
            return cls(cfg)

    config = Config(dict(runner_type="CustomRunner", model=dict(type="X", backbone={})))
    assert type(make_runner(config, training=False)) is CustomRunner


def test_a_hook_that_draws_nothing_is_no_warning(recwarn):
    Visualizer.get_instance("hooks")  # as a Runner makes one first
    runner = QuietRunner.__new__(QuietRunner)
    runner._hooks = []
    runner.register_hook(dict(type="mmseg.SegVisualizationHook"))
    assert not recwarn.list
    assert len(runner.hooks) == 1
