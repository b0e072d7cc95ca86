"""Configs of label-assisted distillation wrap the ordinary ones, and fit each other."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from tests.configs.leaves import LEAVES, SIZE, build, by_stem, shrink
from tests.configs.test_configs import data_sample

PATHS = [p for p in LEAVES if p.parent.name == "label_assisted"]
TEACHERS = [p for p in PATHS if "label-teacher" in p.stem]
STUDENTS = [p for p in PATHS if "label-student" in p.stem]


def shrunken(path):
    """The config with all of its segmentors narrow."""
    config = Config.fromfile(path)
    parts = [config.model]
    if "teacher" in config.model:
        parts.append(config.model.teacher)
    for part in parts:
        part.module = shrink(Config(dict(model=part.module))).model
    return config


def train(config):
    model = build(config).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(2)]
    samples = [data_sample(39, False) for _ in range(2)]
    return model, model.train_step(dict(inputs=images, data_samples=samples), optimizer)


@pytest.mark.parametrize("path", PATHS, ids=by_stem)
def test_the_wrapped_segmentor_is_the_ordinary_one(path):
    kind = {False: "LabelAssistedStudent", True: "LabelAssistedTeacher"}[path in TEACHERS]
    config = Config.fromfile(path)
    assert config.model.type == f"mmsn.{kind}"
    name = path.name.replace("_label-teacher", "").replace("_label-student", "")
    ordinary = Config.fromfile(path.parents[1] / "nyuv2_cpu" / name)
    assert config.model.module == ordinary.model
    assert config.train_cfg == ordinary.train_cfg
    assert config.custom_hooks == ordinary.custom_hooks


@pytest.mark.parametrize("path", STUDENTS, ids=by_stem)
def test_a_shrunken_student_learns_from_the_shrunken_teacher(path, tmp_path):
    (teacher,) = TEACHERS
    config = shrunken(path)
    assert Config.fromfile(path).label_teacher.split("/")[1] == teacher.stem
    trained, losses = train(shrunken(teacher))
    assert losses["loss_consistency"] >= 0
    file = str(tmp_path / "teacher.pth")
    torch.save(dict(state_dict=trained.state_dict()), file)
    config.model.teacher.checkpoint = file
    _, losses = train(config)
    assert losses["loss_distillation"] > 0
