"""mmseg's own configs with a stitched backbone: they train one step, or are refused."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsn.adopt import adopt, find_config, parse_anchor
from mmsn.deploy.extraction import RUNNER_KEYS
from mmsn.errors import MissingFile, UserError
from mmsn.models import build
from mmsn.models.complexity import trace_head
from tests.adopt.names import (
    BEIT,
    DEEPLAB,
    DEIT3,
    SEGMENTER,
    SETR_PUP,
    UPERNET,
    mmseg_config,
    published,
    tiny_anchors,
)
from tests.tiny import tiny_anchor

SIZE = 64  # of a shrunken crop
TRAINED = [
    UPERNET,
    "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
    BEIT,  # Feature2Pyramid, and mmseg's layer decay
    "vit_deit-s16-ln_mln_upernet_8xb2-160k_ade20k-512x512.py",  # MultiLevelNeck
    "fcn_r50-d8_4xb4-160k_ade20k-512x512.py",
    "pspnet_r50-d8_4xb4-160k_ade20k-512x512.py",
    DEEPLAB,
    SEGMENTER,
    "segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py",
    SETR_PUP,
    "setr_vit-l_mla_8xb2-160k_ade20k-512x512.py",
    "fpn_r50_4xb4-160k_ade20k-512x512.py",
    "segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
    "dpt_vit-b16_8xb2-160k_ade20k-512x512.py",
    "ocrnet_hr18_4xb4-160k_ade20k-512x512.py",  # a cascade
]


def shrink(config):
    """A crop of 64, and heads and necks of a few channels."""
    config.model.data_preprocessor.size = (SIZE, SIZE)
    sides = ("channels", "mla_channels", "ocr_channels", "c1_channels")
    parts = [config.model.get("neck"), config.model.decode_head, config.model.get("auxiliary_head")]
    for part in parts:
        for one in part if isinstance(part, list) else [part]:
            for side in sides:
                if side in (one or {}):
                    one[side] = max(8, one[side] // 16)
            if "out_channels" in (one or {}):
                one.out_channels = 16
            if "post_process_channels" in (one or {}):
                one.post_process_channels = [8, 8, 8, 8]
            if (one or {}).get("type") == "SETRMLAHead":
                one.channels = 4 * one.mla_channels
    return config


def batch(classes):
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, SIZE, SIZE)))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=images, data_samples=samples)


def is_reached(module):
    """Does any parameter of this module have a gradient other than zero?"""
    return any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("name", TRAINED, ids=lambda name: Path(name).stem)
def test_an_adopted_config_trains_one_step(name, tmp_path):
    source = shrink(mmseg_config(name))
    untouched = copy.deepcopy(source.to_dict())
    adoption = adopt(source, tiny_anchors(), rank=2)
    assert source.to_dict() == untouched

    file = tmp_path / "adopted.py"
    file.write_text(adoption.text(name))
    config = Config.fromfile(file)
    assert "_base_" not in file.read_text()
    assert config.to_dict() == adoption.config.to_dict()

    init_default_scope("mmseg")
    model = revert_sync_batchnorm(MODELS.build(config.model)).train()
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    stitch = model.backbone.space[model.backbone.space.ids[-1]]
    assert {segment.anchor for segment in stitch.segments} == {0, 1}
    model.backbone.set_stitch(stitch.id)
    heads = model.decode_head if isinstance(model.decode_head, torch.nn.ModuleList) else None
    classes = (heads[-1] if heads else model.decode_head).num_classes
    data = model.data_preprocessor(batch(classes), training=True)
    loss, log = model.parse_losses(model(**data, mode="loss"))
    assert all(torch.isfinite(value).all() for value in log.values())
    loss.backward()
    for part in (*model.backbone.anchors, model.backbone.stitching_layers, model.decode_head):
        assert is_reached(part)
    for part in ("neck", "auxiliary_head"):
        if getattr(model, part, None) is not None:
            assert is_reached(getattr(model, part))

    before = [p.clone() for p in model.backbone.anchors[0].parameters()]
    optimizer.step()
    after = model.backbone.anchors[0].parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", [UPERNET, BEIT, SETR_PUP, SEGMENTER])
def test_no_variable_is_left_unread(name):
    """Editing a top-level ``train_pipeline`` or ``optimizer`` of a complete file does nothing."""
    config = adopt(mmseg_config(name), DEIT3).config
    assert set(config) <= {*RUNNER_KEYS, "load_from", "resume"} - {"train_pipeline"}


def test_unusual_choices_are_noted():
    notes = adopt(mmseg_config(UPERNET), DEIT3).notes
    assert any("SGD with lr=0.01" in note for note in notes)
    notes = adopt(mmseg_config("bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py"), DEIT3).notes
    assert any("decode_head reads level 0" in note and "in_index=2" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "anchors", "line"),
    [
        ("san-vit-b16_coco-stuff164k-640x640.py", DEIT3, "model.type 'MultimodalEncoderDecoder'"),
        ("fastfcn_r50-d32_jpu_psp_4xb4-160k_ade20k-512x512.py", DEIT3, "neck 'JPU' cannot be"),
        ("knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py", DEIT3, "(IterativeDecodeHead) has"),
        ("ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024.py", DEIT3, "DDRHead cannot be adapt"),
        (UPERNET, DEIT3[:1], "1 anchors are given: name two or more"),
        (UPERNET, DEIT3[::-1], "list anchors from smallest to largest"),
        (UPERNET, published("deit3_tiny", "deit3_small"), "'deit3_tiny' has no published weights"),
        (UPERNET, [tiny_anchor(16, 1), tiny_anchor(24, 2)], "has only 2 blocks: choose a deeper"),
    ],
    ids=lambda value: value.split("_")[0] if isinstance(value, str) else "",
)
def test_what_cannot_be_adapted_is_refused_in_one_line(name, anchors, line):
    with pytest.raises(UserError) as refused:
        adopt(mmseg_config(name), anchors, 4)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_adopted_config_is_refused():
    config = adopt(mmseg_config(UPERNET), DEIT3).config
    with pytest.raises(UserError, match="a StitchedViT already"):
        adopt(config, DEIT3)


def test_anchors_and_configs_by_name():
    assert parse_anchor("a.b") == dict(model_name="a.b", pretrained=True)
    assert parse_anchor("a=x/y.pth") == dict(model_name="a", checkpoint="x/y.pth")
    assert find_config(f"mmseg::upernet/{UPERNET}") == find_config(UPERNET)
    with pytest.raises(MissingFile, match=r"'no_such_config\.py' does not exist"):
        find_config("no_such_config.py")


def test_segmenter_is_built_without_memory():
    """Its drop rates are read out of a tensor, which the meta device does not have."""
    config = adopt(shrink(mmseg_config(SEGMENTER)), tiny_anchors(), rank=2).config
    assert trace_head(build(config, "meta"), (SIZE, SIZE))[0] > 0
