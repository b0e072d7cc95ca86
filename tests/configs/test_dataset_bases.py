"""The dataset bases hold what models and schedules build upon, and the copied facts are right."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, TRANSFORMS

FOLDER = Path(__file__).parents[2] / "configs/_base_/datasets"
# file: crop, classes, scale at which images enter, training images per step and GPU
BASES = {
    "ade20k_512x512.py": ((512, 512), 150, (2048, 512), 2),
    "coco-stuff10k_512x512.py": ((512, 512), 171, (2048, 512), 2),
    "nyuv2-seg_480x480.py": ((480, 480), 40, (640, 480), 2),
    "shapes_96x96.py": ((96, 96), 12, None, 16),
}


def test_every_base_is_listed():
    assert set(BASES) <= {path.name for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("name", BASES)
def test_base(name):
    crop, num_classes, scale, batch = BASES[name]
    config = Config.fromfile(FOLDER / name)
    assert config.crop_size == crop
    assert config.train_dataloader.batch_size == batch
    assert len(DATASETS.get(config.dataset_type).METAINFO["classes"]) == num_classes
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.dataset.type == config.dataset_type
        assert "persistent_workers" not in loader or loader.num_workers > 0
    assert config.test_dataloader == config.val_dataloader
    assert config.val_evaluator == config.test_evaluator

    steps = {step.type: step for step in config.train_pipeline}
    assert "LoadAnnotations" in steps
    assert "RandomFlip" in steps
    if scale:
        assert steps["RandomResize"].scale == scale
        assert steps["RandomResize"].ratio_range == (0.5, 2.0)
        assert steps["RandomCrop"].crop_size == crop
        assert steps["RandomCrop"].cat_max_ratio == 0.75
        tested = [step.type for step in config.test_pipeline]
        assert tested.index("Resize") < tested.index("LoadAnnotations")  # labels stay as they are
    for step in (*config.train_pipeline, *config.test_pipeline):
        TRANSFORMS.build(step)
