"""The ImageNet configs: recipe, names, and a shrunken training with all hooks under mmpretrain.

`pip install -e ".[onedl,test,mmpretrain]"` installs what the trainings here need; without
mmpretrain they are skipped.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmsn.evaluation import ParetoReport
from mmsn.models import StitchedClassifier, segmentor_macs, segmentor_params
from mmsn.running import make_runner
from tests.configs.leaves import LEAVES, by_stem
from tests.engine.reading import log_of

PATHS = [p for p in LEAVES if p.parent.name == "imagenet"]
NAME = re.compile(r"snnetv2_deit3-(s-b|s-l|b-l)-r64_8xb64-50e_in1k-224x224")
SIZES = dict(s="small", b="base", l="large")
DROP_PATH = dict(s=0.05, b=0.15, l=0.4)
CLASSES = ("blue", "green", "red")


@pytest.mark.parametrize("path", PATHS, ids=by_stem)
def test_the_recipe_is_the_published_one(path):
    config = Config.fromfile(path, import_custom_modules=False)
    keys = NAME.fullmatch(path.stem)[1].split("-")
    backbone = config.model.backbone
    for anchor, key in zip(backbone.anchors, keys, strict=True):
        assert anchor.model_name == f"deit3_{SIZES[key]}_patch16_224.fb_in22k_ft_in1k"
        assert anchor.pretrained
        assert anchor.drop_path_rate == DROP_PATH[key]
    assert (backbone.rank, backbone.img_size, backbone.num_classes) == (64, 224, 1000)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("Lamb", 3e-5, 0.02)
    warmup, cosine = config.param_scheduler
    assert warmup.start_factor * optimizer.lr == pytest.approx(1e-7)
    assert (warmup.end, cosine.begin, cosine.end, cosine.eta_min) == (5, 5, 50, 1e-5)
    assert config.train_cfg.max_epochs == 50
    assert config.train_dataloader.batch_size == 64
    assert config.train_dataloader.sampler.type == "RepeatAugSampler"
    assert config.model.train_cfg.augments == [dict(type="CutMix", alpha=1.0)]
    assert config.model.head.loss.label_smooth_val == 0.1
    init, sampling = config.custom_hooks
    assert (init.num_images, sampling.parts) == (100, 1)


def test_all_pairs_are_there():
    assert {NAME.fullmatch(p.stem)[1] for p in PATHS} == {"s-b", "s-l", "b-l"}


@pytest.fixture
def images(tmp_path):
    """Six training and three validation images of each of three colors."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3), dtype=np.uint8)
                pixels[..., 2 - label] += 150
                Image.fromarray(pixels).save(folder / f"{n}.png")
    return tmp_path / "data"


def shrunken(path, images, work_dir, epochs=2):
    """The config at widths 16 and 24, depths 2 and 4, 32x32 pixels, on a CPU."""
    config = Config.fromfile(path)
    backbone = config.model.backbone
    for anchor, width, depth in zip(backbone.anchors, (16, 24), (2, 4), strict=True):
        anchor.update(pretrained=False, embed_dim=width, depth=depth, num_heads=2)
    backbone.update(img_size=32, rank=2, num_classes=len(CLASSES))
    config.model.data_preprocessor.num_classes = len(CLASSES)
    for split, loader in (("train", config.train_dataloader), ("val", config.val_dataloader)):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        pipeline = loader.dataset.pipeline
        for transform in pipeline:
            for key in ("scale", "crop_size"):
                if key in transform:
                    transform[key] = 32
        loader.dataset = dict(
            type="CustomDataset", data_root=str(images / split), pipeline=pipeline
        )
    config.test_dataloader = config.val_dataloader
    config.val_evaluator.topk = config.test_evaluator.topk = (1, 2)
    config.optim_wrapper.type = "OptimWrapper"
    config.optim_wrapper.optimizer.lr = 3e-3
    config.param_scheduler = []
    config.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    config.custom_hooks[0].num_images = 8
    config.default_hooks.logger.interval = 1
    config.work_dir, config.experiment_name = str(work_dir), f"{work_dir.parent.name}_{epochs}"
    return config


@pytest.fixture
def mmpretrain():
    return pytest.importorskip("mmpretrain", reason="the extra mmpretrain is not installed")


def test_a_shrunken_copy_trains_resumes_and_evaluates_every_stitch(mmpretrain, images, tmp_path):
    runner = make_runner(shrunken(PATHS[0], images, tmp_path / "run"), training=True)
    assert isinstance(runner.model.backbone, StitchedClassifier)
    runner.train()
    log = log_of(runner)
    assert "Initialized 2 stitching layers by least squares" in log
    assert re.search(r"Epoch\(val\).*stitch0/accuracy/top1: [\d.]+", log)
    losses = [float(x) for x in re.findall(r"loss: ([\d.]+)", log)]
    assert len(losses) == 10
    assert np.mean(losses[-3:]) < np.mean(losses[:3])

    longer = shrunken(PATHS[0], images, tmp_path / "run", epochs=3)
    longer.resume = True
    runner = make_runner(longer, training=True)
    runner.train()
    assert "resumed epoch: 2" in log_of(runner)

    tested = shrunken(PATHS[0], images, tmp_path / "test")
    tested.load_from = str(tmp_path / "run" / "epoch_3.pth")
    runner = make_runner(tested, training=False)
    flat = runner.test()
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    assert [result.id for result in report.stitches] == [0, 1, 2, 4]
    macs, params = segmentor_macs(runner.model, (32, 32)), segmentor_params(runner.model)
    for result in report.stitches:
        top1 = flat[f"stitch{result.id}/accuracy/top1"]
        assert result.metrics["accuracy/top1"] == pytest.approx(top1, abs=1e-4)
        assert (result.macs, result.params) == (macs[result.id], params[result.id])
        assert result.macs == runner.model.backbone.stitch_macs((32, 32))[result.id]


def test_losses_are_those_of_the_anchors_classifier(mmpretrain, images, tmp_path):
    model = make_runner(shrunken(PATHS[0], images, tmp_path / "run"), training=False).model.eval()
    torch.manual_seed(0)
    inputs, samples = torch.randn(2, 3, 32, 32), []
    for label in (0, 2):
        sample = mmpretrain.structures.DataSample()
        samples.append(sample.set_gt_label(label))
    with model.backbone.use_stitch(0):
        found = model.loss(inputs, samples)["loss"].item()
        logits = model(inputs).detach().numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = 0.9 * np.eye(3)[[0, 2]] + 0.1 / 3
    assert found == pytest.approx(-(wanted * log_p).sum(1).mean(), rel=1e-5)
