"""Mask R-CNN under mmdet: FLOPs, a step of a shrunken copy, and boxes out of it.

`pip install -e ".[onedl,test,mmdet]"` installs what is needed here; without mmdet, these tests are
skipped. Where torchvision has no operators, because it does not fit torch, the two that Mask R-CNN
needs run in plain PyTorch.
"""

import importlib
import re

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from mmsn.models import head_macs, segmentor_macs
from tests.configs.leaves import LEAVES, by_stem

PATHS = [p for p in LEAVES if p.parent.name == "detection"]
NAME = re.compile(r"snnetv2_deit3-s-l-r16_mask-rcnn_8xb8-184k_coco-1024x1024")
SIZE = 64


def suppressed(boxes, scores, iou_threshold):
    """torchvision's ``nms`` in plain PyTorch: positions of boxes that no better one overlaps."""
    kept, order = [], scores.argsort(descending=True)
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first.item())
        order = rest[torchvision.ops.box_iou(boxes[first, None], boxes[rest])[0] <= iou_threshold]
    return torch.tensor(kept, dtype=torch.long)


def aligned(maps, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
    """torchvision's ``roi_align``, as it is written there in plain PyTorch; not compiled.

    An adaptive number of samples is slow there, so a cell then has two by two.
    """
    sampling_ratio = sampling_ratio if sampling_ratio > 0 else 2
    plain = importlib.import_module("torchvision.ops.roi_align")._roi_align.__wrapped__
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    return plain(maps, boxes, spatial_scale, *size, sampling_ratio, aligned)


@pytest.fixture
def mmdet(monkeypatch):
    """mmdet, where it is installed; torchvision's two operators may be missing."""
    pytest.importorskip("mmdet", reason="the extra mmdet is not installed")
    try:
        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (RuntimeError, NotImplementedError):
        monkeypatch.setattr(torchvision.ops, "nms", suppressed)
        monkeypatch.setattr(torchvision.ops, "roi_align", aligned)
    return pytest.importorskip("mmdet.models")


@pytest.mark.parametrize("path", PATHS, ids=by_stem)
def test_a_config_is_what_its_name_says(path):
    assert NAME.fullmatch(path.stem)
    config = Config.fromfile(path, import_custom_modules=False)
    backbone = config.model.backbone
    assert [a.model_name.split("_")[1] for a in backbone.anchors] == ["small", "large"]
    assert (backbone.rank, backbone.img_size, tuple(backbone.out_indices)) == (16, 1024, (23,))
    assert config.model.neck.in_channels == 1024
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == 184_375
    assert config.train_cfg.max_iters * 64 / 118_000 == pytest.approx(100, rel=0.01)  # epochs
    assert config.train_dataloader.batch_size == 8


def build(path):
    """A copy of widths 16 and 24, depths 2 and 4, 64x64 pixels and five classes."""
    config = Config.fromfile(path)
    model = config.model
    for anchor, width, depth in zip(model.backbone.anchors, (16, 24), (2, 4), strict=True):
        anchor.update(pretrained=False, embed_dim=width, depth=depth, num_heads=2)
    model.backbone.update(img_size=SIZE, rank=2, out_indices=(3,))
    model.neck.update(in_channels=24, out_channels=8)
    model.rpn_head.update(in_channels=8, feat_channels=8)
    for part in ("bbox", "mask"):
        model.roi_head[f"{part}_roi_extractor"].out_channels = 8
        model.roi_head[f"{part}_head"].update(in_channels=8, num_classes=5)
    model.roi_head.bbox_head.update(conv_out_channels=8, fc_out_channels=16)
    model.roi_head.mask_head.conv_out_channels = 8
    init_default_scope(config.default_scope)
    return MODELS.build(model), config


@pytest.fixture
def batch(mmdet):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for box in ((4, 6, 40, 50), (10, 2, 60, 30)):
        left, top, right, bottom = box
        mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
        mask[:, top:bottom, left:right] = 1
        size = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
        sample = DetDataSample(metainfo=size | dict(pad_shape=(SIZE, SIZE), scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([box], dtype=torch.float32),
            labels=torch.tensor([3]),
            masks=BitmapMasks(mask.numpy(), SIZE, SIZE),
        )
        samples.append(sample)
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize("path", PATHS, ids=by_stem)
def test_a_shrunken_copy_trains_a_step_of_several_stitches_and_detects(mmdet, batch, path):
    torch.manual_seed(0)
    model, config = build(path)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    model.backbone.set_training_stitches((0, 4))
    losses = model.train_step(batch, optimizer)
    assert {"loss_rpn_cls", "loss_cls", "loss_bbox", "loss_mask"} <= set(losses)
    assert all(torch.isfinite(value).all() for value in losses.values())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    parts = ("backbone.anchors.0", "backbone.anchors.1", "neck", "rpn_head", "roi_head.mask_head")
    for part in parts:
        assert any(key.startswith(part) for key in changed), part

    model.eval()
    model.roi_head.test_cfg.score_thr = 0.0
    for stitch in (0, 4):
        with torch.no_grad(), model.backbone.use_stitch(stitch):
            (first, _) = model.test_step(batch)
        boxes = first.pred_instances.bboxes
        assert 0 < len(boxes) <= 100
        assert ((boxes >= 0) & (boxes <= SIZE)).all()
        assert first.pred_instances.masks.shape[1:] == (SIZE, SIZE)


@pytest.mark.parametrize("path", PATHS, ids=by_stem)
def test_flops_are_those_of_every_part(mmdet, path):
    model, _ = build(path)
    size = (SIZE, SIZE)
    found = segmentor_macs(model, size)
    heads = head_macs(model, size)
    assert found == {i: m + heads for i, m in model.backbone.stitch_macs(size).items()}

    def conv(module, cells):
        return module.weight.numel() * cells

    cells = [(SIZE // s) ** 2 for s in (4, 8, 16, 32, 64)]
    patches, neck = cells[2], model.neck
    total = conv(neck.scales[0][0], patches) + conv(neck.scales[0][3], 4 * patches)
    total += 5 * 12 * 4 * patches  # the norm between
    total += conv(neck.scales[1], patches)
    for out, count in zip(neck.outs, cells, strict=False):
        total += conv(out[0], count) + conv(out[2], count) + 2 * 5 * 8 * count
    for part in (m for m in model.rpn_head.modules() if isinstance(m, torch.nn.Conv2d)):
        total += sum(conv(part, count) for count in cells)
    boxes, masks = model.roi_head.bbox_head, model.roi_head.mask_head
    total += sum(conv(m.conv, 1000 * 49) for m in boxes.shared_convs)
    total += sum(conv(m, 1000) for m in boxes.modules() if isinstance(m, torch.nn.Linear))
    total += sum(conv(m.conv, 100 * 196) for m in masks.convs)
    total += conv(masks.upsample, 100 * 196) + conv(masks.conv_logits, 100 * 28 * 28)
    assert heads == total
