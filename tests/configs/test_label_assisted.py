"""Configs of label-assisted distillation wrap the ordinary ones, and fit each other."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from tests.configs.leaves import LABEL_ASSISTED, SIZE, build, by_stem, shrink
from tests.configs.test_configs import data_sample

TEACHERS = [p for p in LABEL_ASSISTED if "label-teacher" in p.stem]
STUDENTS = [p for p in LABEL_ASSISTED if p not in TEACHERS]


def teacher_of(student):
    (teacher,) = [p for p in TEACHERS if p.parent == student.parent]
    return teacher


def ordinary_of(path):
    """The config that a teacher or a student wraps."""
    if path.parent.name == "frontier":
        method = {False: "parts", True: "large"}[path in TEACHERS]
        return path.with_name(f"{path.stem.partition('_')[0]}_{method}.py")
    name = path.name.replace("_label-teacher", "").replace("_label-student", "")
    return path.parents[1] / "nyuv2_cpu" / name


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


@pytest.mark.parametrize("path", LABEL_ASSISTED, ids=by_stem)
def test_the_wrapped_segmentor_is_the_ordinary_one(path):
    kind = {False: "LabelAssistedStudent", True: "LabelAssistedTeacher"}[path in TEACHERS]
    config = Config.fromfile(path)
    assert config.model.type == f"mmsn.{kind}"
    ordinary = Config.fromfile(ordinary_of(path))
    assert config.model.module == ordinary.model
    if path.parent.name == "frontier":  # teacher and student share the compute of one training
        assert config.custom_hooks[:-1] == ordinary.custom_hooks[:-1]
    else:
        assert config.train_cfg == ordinary.train_cfg
        assert config.custom_hooks == ordinary.custom_hooks


@pytest.mark.parametrize("path", STUDENTS, ids=by_stem)
def test_a_student_names_what_its_teachers_config_writes(path):
    config, teacher = Config.fromfile(path), Config.fromfile(teacher_of(path))
    module = config.model.teacher.module
    if len(module.backbone.anchors) == 1:
        for part in (module, teacher.model.module):
            part.backbone.pop("rank", None)  # of no meaning without stitching layers
    assert module == teacher.model.module
    folder, file = config.model.teacher.checkpoint.split("/")[-2:]
    seed = "_0" if path.parent.name == "frontier" else ""
    assert folder == teacher_of(path).stem + seed
    assert file == f"iter_{teacher.train_cfg.max_iters}.pth"


@pytest.mark.parametrize("path", STUDENTS, ids=by_stem)
def test_a_shrunken_student_learns_from_the_shrunken_teacher(path, tmp_path):
    config = shrunken(path)
    trained, losses = train(shrunken(teacher_of(path)))
    assert losses["loss_consistency"] >= 0
    file = str(tmp_path / "teacher.pth")
    torch.save(dict(state_dict=trained.state_dict()), file)
    config.model.teacher.checkpoint = file
    _, losses = train(config)
    assert losses["loss_distillation"] > 0
