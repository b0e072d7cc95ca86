"""mmseg's own configs with a stitched backbone: changes, refusals, and a step of training."""

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
from mmsn.errors import UserError
from mmsn.models import build, read_config
from mmsn.models.complexity import trace_head
from tests.tiny import tiny_anchor

SIZE = 64  # of a shrunken crop
UPERNET = "upernet_r50_4xb4-160k_ade20k-512x512.py"
SETR_PUP = "setr_vit-l_pup_8xb2-160k_ade20k-512x512.py"
SEGMENTER = "segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py"
BEIT = "beit-base_upernet_8xb2-160k_ade20k-640x640.py"
DEEPLAB = "deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py"
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


def tiny_anchors():
    return [tiny_anchor(32, 4), tiny_anchor(64, 8)]


def mmseg_config(name):
    return read_config(find_config(name))


def published(*names):
    return [dict(model_name=name, pretrained=True) for name in names]


DEIT3 = published(
    "deit3_small_patch16_224.fb_in22k_ft_in1k", "deit3_large_patch16_224.fb_in22k_ft_in1k"
)


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


def changed(adoption):
    return {change.key: change.what for change in adoption.changes}


def test_a_pyramid_head_gets_a_neck_and_its_width():
    adoption = adopt(mmseg_config(UPERNET), DEIT3)
    model = adoption.config.model
    assert model.neck == dict(
        type="MultiLevelNeck", in_channels=[1024] * 4, out_channels=256, scales=[4, 2, 1, 0.5]
    )
    assert model.decode_head.in_channels == [256] * 4
    assert model.auxiliary_head.in_channels == 256
    assert model.backbone.out_indices == (5, 11, 17, 23)
    assert "eval_levels" not in model.backbone  # the neck reads all
    assert "pretrained" not in model
    assert [anchor.model_name for anchor in model.backbone.anchors] == [
        anchor["model_name"] for anchor in DEIT3
    ]
    assert {"model.neck", "model.backbone", "model.decode_head.in_channels"} <= set(
        changed(adoption)
    )


def test_levels_of_a_plain_backbone_stay_where_they_were():
    setr = adopt(mmseg_config(SETR_PUP), DEIT3).config.model
    assert setr.backbone.out_indices == (9, 14, 19, 23)
    assert setr.backbone.eval_levels == (3,)
    assert setr.decode_head.in_channels == 1024
    half = adopt(mmseg_config(SETR_PUP), [tiny_anchor(32, 6), tiny_anchor(64, 12)], 4).config
    assert half.model.backbone.out_indices == (4, 7, 9, 11)
    assert [head.in_channels for head in half.model.auxiliary_head] == [64] * 3
    assert adopt(mmseg_config(SEGMENTER), DEIT3).config.model.backbone.out_indices == (23,)


def test_segmenter_stays_as_wide_as_the_backbone():
    head = adopt(mmseg_config(SEGMENTER), DEIT3).config.model.decode_head
    assert (head.in_channels, head.channels, head.embed_dims, head.num_heads) == (
        1024,
        1024,
        1024,
        16,
    )


def test_deeplab_reads_the_first_level_and_reaches_as_far():
    model = adopt(mmseg_config(DEEPLAB), DEIT3).config.model
    assert model.decode_head.c1_in_channels == 1024
    assert model.backbone.eval_levels == (0, 3)
    assert model.decode_head.dilations == (1, 6, 12, 18)  # at stride 16 instead of 8


def test_dpt_gets_class_tokens_or_is_refused():
    config = mmseg_config("dpt_vit-b16_8xb2-160k_ade20k-512x512.py")
    model = adopt(config, DEIT3).config.model
    assert model.backbone.output_cls_token
    assert model.decode_head.embed_dims == 1024
    sizes = [f"vit_{size}_patch16_siglip_gap_512.v2_webli" for size in ("base", "large")]
    with pytest.raises(UserError, match="DPTHead reads a class token"):
        adopt(config, published(*sizes))


def test_normalization_is_that_of_the_last_anchor():
    augreg = published(
        "vit_small_patch16_224.augreg_in21k_ft_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k"
    )
    adoption = adopt(mmseg_config(UPERNET), augreg)
    preprocessor = adoption.config.model.data_preprocessor
    assert preprocessor.mean == preprocessor.std == [127.5] * 3
    assert "normalization of vit_base" in next(
        c.why for c in adoption.changes if c.key == "model.data_preprocessor.mean"
    )
    assert not any("pretrained with mean" in note for note in adoption.notes)

    mixed = adopt(mmseg_config(UPERNET), [augreg[0], DEIT3[1]])
    assert mixed.config.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert "model.data_preprocessor.mean" not in changed(mixed)
    (note,) = [note for note in mixed.notes if "pretrained with mean" in note]
    assert "(127.5, 127.5, 127.5)" in note
    assert "(123.675, 116.28, 103.53)" in note


def test_hooks_loops_and_imports():
    source = mmseg_config(UPERNET)
    source.custom_imports = dict(imports="math")
    source.custom_hooks = [dict(type="EMAHook")]
    source.load_from, source.model_wrapper_cfg = "old.pth", dict(type="MMDistributedDataParallel")
    config = adopt(source, DEIT3, stitches=["anchors", 25]).config
    assert config.custom_imports.imports == ["mmsn", "math"]
    assert [hook.type for hook in config.custom_hooks] == [
        "EMAHook",
        "mmsn.StitchInitHook",
        "mmsn.FLOPsConstrainedSamplingHook",
    ]
    assert config.custom_hooks[-1].stitches == ["anchors", 25]
    assert config.val_cfg == dict(type="mmsn.ParetoValLoop", stitches=["anchors", "middle"])
    assert config.test_cfg == dict(type="mmsn.ParetoTestLoop", stitches=["anchors", "middle"])
    assert config.find_unused_parameters
    assert config.model_wrapper_cfg.find_unused_parameters
    assert config.load_from is None


@pytest.mark.parametrize("name", [UPERNET, BEIT, SETR_PUP, SEGMENTER])
def test_no_variable_is_left_that_nobody_reads(name):
    """Editing a top-level ``train_pipeline`` or ``optimizer`` of a complete file does nothing."""
    config = adopt(mmseg_config(name), DEIT3).config
    assert set(config) <= {*RUNNER_KEYS, "load_from", "resume"} - {"train_pipeline"}


def test_layer_decay_is_ours_with_the_same_rate():
    wrapper = adopt(mmseg_config(BEIT), DEIT3).config.optim_wrapper
    assert wrapper.constructor == "mmsn.LayerDecayOptimizerConstructor"
    assert wrapper.paramwise_cfg == dict(decay_rate=0.9)


def test_a_slow_backbone_keeps_stitching_layers_fast():
    source = mmseg_config(UPERNET)
    source.optim_wrapper.paramwise_cfg = dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
    config = adopt(source, [tiny_anchor(32, 4), tiny_anchor(64, 8)], 4).config
    keys = config.optim_wrapper.paramwise_cfg.custom_keys
    assert keys.stitching_layers == dict(lr_mult=1.0)
    model = build(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    layer = next(iter(model.backbone.stitching_layers.values()))
    assert rates[id(layer.lora_A)] == pytest.approx(0.01)
    assert rates[id(model.backbone.anchor(0).vit.blocks[0].mlp.fc1.weight)] == pytest.approx(0.001)


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
    with pytest.raises(FileNotFoundError, match=r"'no_such_config\.py' does not exist"):
        find_config("no_such_config.py")


def test_segmenter_is_built_without_memory():
    """Its drop rates are read out of a tensor, which the meta device does not have."""
    config = adopt(shrink(mmseg_config(SEGMENTER)), tiny_anchors(), rank=2).config
    assert trace_head(build(config, "meta"), (SIZE, SIZE))[0] > 0


def test_the_command_writes_a_file_once(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = tool("adopt").main
    words = [UPERNET, "--anchors", *(anchor["model_name"] for anchor in DEIT3), "--stitch", "sl"]
    main(words)
    told = capsys.readouterr().out
    assert "- model.neck: None -> MultiLevelNeck, 4 levels of width 256" in told
    assert "note: optim_wrapper.optimizer is SGD" in told
    name = UPERNET.replace(".py", "_stitched.py")
    assert f"wrote {name}" in told
    config = Config.fromfile(name)
    assert config.custom_hooks[1].stitches == "sl"
    with pytest.raises(UserError, match="exists: give another file as --out"):
        main(words)
