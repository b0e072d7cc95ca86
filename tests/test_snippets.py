"""Every Python snippet of README and docs runs, in a folder with the files that it names.

A snippet runs as it is, except for what it would download, train for minutes or run on a GPU: the
tests replace that by something small.
"""

import re

import numpy as np
import pytest
import torch
from mmcv.transforms import TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, build_from_cfg, init_default_scope
from mmseg.registry import MODELS as MMSEG_MODELS
from PIL import Image

from mmsn import shrink
from mmsn.checks import Findings, examine
from mmsn.deploy import export, extract, save
from mmsn.models import build
from mmsn.models.complexity import trace_head
from tests.conftest import ROOT
from tests.deploy.tiny import tiny_config, tiny_model, tiny_report
from tests.shrink.tiny import NAME, PARENT, make_parent, write_images
from tests.tiny import tiny_anchor, tiny_backbone, tiny_head, tiny_segmentor

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
RUN: set[tuple[str, int]] = set()  # (page, number of the snippet), filled by the marks below


def snippets(page):
    """The Python snippets of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def runs(page, *numbers):
    """Mark a test as the one that runs these snippets, and give it their text."""
    RUN.update((page, number) for number in numbers)
    return pytest.mark.parametrize("texts", [[snippets(page)[n] for n in numbers]], ids=[page])


def replaced(text, parts):
    """The text with some parts replaced; each old part must be there."""
    for old, new in parts.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the snippets may use without making it, in a folder that holds the files they read."""

    def make(**backbone):
        monkeypatch.chdir(tmp_path)
        model = tiny_model(**backbone)
        tiny_config(**backbone).dump("c.py")
        state = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta))
        torch.save(state, "k.pth")
        tiny_report(model, {i: float(i) for i in model.backbone.space.ids}).save("pareto.json")
        image = np.zeros((40, 48, 3), np.uint8)
        return dict(config="c.py", checkpoint="k.pth", report="pareto.json", image=image)

    return make


def configured(text):
    """The variables that a piece of a config sets."""
    variables = {}
    exec(text, variables)
    return Config({k: v for k, v in variables.items() if not k.startswith("__")})


@runs("README.md", 0)
def test_the_config_of_the_readme_has_no_mistakes(texts, tmp_path):
    """``tests/engine/test_adopted_run.py`` trains it."""
    (tmp_path / "c.py").write_text(texts[0])
    config = Config.fromfile(tmp_path / "c.py")
    assert examine(config, training=True) == Findings()
    for anchor in config.model.backbone.anchors:
        assert anchor.pop("pretrained")  # nothing is downloaded here
    built = build(config, "meta")
    assert len(built.backbone.space) == 134
    assert trace_head(built, (512, 512))[0] > 1e9  # neck and heads take what the backbone gives


@runs("README.md", 1, 2)
def test_the_programs_of_the_readme(texts, names):
    # the depths of DeiT-3 S and L, so that there are 134 stitches
    variables = names(anchors=[tiny_anchor(16, 12), tiny_anchor(24, 24)], out_indices=(11, 23))
    predict, through_mmseg = texts
    exec(predict, variables)
    assert variables["labels"].shape == (40, 48)
    exec(through_mmseg, variables)
    model, menu = variables["model"], variables["menu"]
    assert len(model.backbone.space) == 134
    costs = menu.macs.values()
    chosen = menu.macs[model.backbone.stitch.id]
    assert chosen == max(macs for macs in costs if macs <= 0.5 * max(costs))
    assert variables["result"].pred_sem_seg.data.shape[-2:] == (40, 48)


@runs("docs/adopt.md", 0)
def test_the_optimizer_of_the_page_decays_rates_by_layer(texts):
    wrapper = build_optim_wrapper(build(tiny_config()), configured(texts[0]).optim_wrapper)
    rates = {round(group["lr"] / 6e-5, 6) for group in wrapper.optimizer.param_groups}
    assert rates == {round(0.85**power, 6) for power in range(10)}  # depths 4 and 8


@runs("docs/anchors.md", 0)
def test_anchors_of_two_patch_sizes_share_a_grid(texts):
    anchors = configured(texts[0]).anchors
    for anchor in anchors:
        assert anchor.pop("pretrained")
    with torch.device("meta"):
        built = MMSEG_MODELS.build(
            dict(type="mmsn.StitchedViT", anchors=anchors, img_size=512, out_indices=(23,), rank=2)
        )
    assert built.anchor(0).token_layout == built.anchor(1).token_layout


@runs("docs/depth.md", 0)
def test_the_loader_of_depth_is_built(texts):
    init_default_scope("mmseg")
    assert TRANSFORMS.build(eval(texts[0])).depth_rescale_factor == 1 / 256


@runs("docs/depth-models.md", 0)
def test_the_depth_head_of_the_page_regresses_meters(texts):
    exec(texts[0], {})
    options = dict(in_channels=[8, 8], in_index=[0, 1], channels=4, norm_cfg=dict(type="BN"))
    head = MMSEG_MODELS.build(dict(type="mmsn.SegformerDepthHead", **options))
    meters = head.eval()([torch.randn(1, 8, 4, 4) * 100] * 2)
    assert meters.shape == (1, 1, 4, 4)
    assert 1e-3 <= meters.min() <= meters.max() <= 10


@pytest.mark.slow
@runs("docs/extract.md", 0, 1, 2)
def test_what_is_extracted_and_exported_is_read(texts, names):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    extracted, exported, predicted = texts
    names()
    model = tiny_model()
    weights = torch.load("k.pth", weights_only=True)["state_dict"]
    save("stitch25", *extract(tiny_config(), weights, [4]), model.dataset_meta)
    tiny_config().dump("supernet.py")
    torch.save(dict(state_dict=weights), "supernet.pth")
    Image.fromarray(np.full((40, 48, 3), 200, np.uint8)).save("street.jpg")

    variables = {}
    exec(extracted, variables)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), model.backbone.use_stitch(4):
        logits = model.encode_decode(images, [dict(ori_shape=(32, 32), img_shape=(32, 32))])
        again = variables["model"].encode_decode(
            images, [dict(ori_shape=(32, 32), img_shape=(32, 32))]
        )
    assert torch.allclose(logits, again, atol=1e-4)

    for name in ("stitch25.onnx", "stitch25.pt2"):
        export(variables["model"], name, (32, 32))
    variables = dict(images=images.numpy())
    exec(exported, variables)
    assert torch.allclose(logits, variables["logits"], atol=1e-4)

    variables = {}
    exec(replaced(predicted, {'device="cuda"': 'device="cpu"'}), variables)
    assert variables["labels"].shape == (40, 48)


@runs("docs/runtime.md", 0, 1, 2, 3, 4)
def test_the_snippets_of_runtime_follow_each_other(texts, names, capsys):
    variables = names()
    for text in texts:
        exec(text, variables)
    out = capsys.readouterr().out
    assert "largest that fits 60%" in out
    assert "largest that fits" in out.splitlines()[-1]
    assert len(variables["results"]) == 3
    assert variables["controller"].stitch in (0, 1, 4)


@runs("docs/safety.md", 0)
def test_the_hooks_of_the_page_are_built(texts):
    hooks = [HOOKS.build(hook) for hook in configured(texts[0]).default_hooks.values()]
    assert [type(hook).__name__ for hook in hooks] == [
        "AtomicCheckpointHook",
        "FiniteHook",
        "LabelHook",
        "RankCheckHook",
    ]


@runs("docs/shrink.md", 0)
def test_a_child_is_an_anchor_beside_its_parent(texts):
    anchors = configured(texts[0]).anchors
    assert anchors[0].pop("checkpoint") == "child.safetensors"
    assert anchors[1].pop("pretrained")
    with torch.device("meta"):
        built = MMSEG_MODELS.build(
            dict(type="mmsn.StitchedViT", anchors=anchors, img_size=64, out_indices=(11,), rank=2)
        )
    assert [anchor.depth for anchor in built.anchors] == [6, 12]


@runs("docs/shrink.md", 1)
def test_a_child_is_distilled_in_a_program(texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photographs")
    monkeypatch.setattr(shrink, "load_parent", lambda name: make_parent())
    shorter = {
        "depth=6": "depth=2",
        "range(32)": "range(4)",
        "steps=1600": "steps=2",
        "(192, 256)": "(32, 48)",
        "(224, 224)": "(64, 64)",
        "child_options(plan, {})": "child_options(plan, PARENT)",
    }
    variables = dict(PARENT=PARENT)
    exec(replaced(texts[0], shorter), variables)
    parent, child = variables["parent"], variables["child"]
    assert (parent.model_name, child.depth, child.dim) == (NAME, 2, 24)
    # Two steps moved the child away from the blocks that it was cut from.
    first = "vit.blocks.0.mlp.fc1.weight"
    assert not torch.equal(child.state_dict()[first], parent.state_dict()[first])


@runs("docs/neighbors.md", 0)
def test_a_teacher_and_its_student_wrap_the_model_of_a_config(texts):
    init_default_scope("mmseg")
    model = tiny_segmentor(tiny_backbone((2, 4), (1, 3)), tiny_head(5))
    variables = dict(model=model)
    exec(replaced(texts[0], {'dict(type="EncoderDecoder")': "model"}), variables)
    plain, teacher, student = (
        set(build_from_cfg(variables[name], MMSEG_MODELS).state_dict())
        for name in ("segmentor", "teacher", "student")
    )
    assert student == plain < teacher  # only the teacher has weights of its own, for labels


@runs("docs/snnet.md", 0)
def test_the_levels_of_stitched_swins_fit_the_head_of_the_page(texts):
    init_default_scope("mmseg")
    variables = {}
    exec(texts[0], variables)
    spec, head = variables["model"]["backbone"], variables["model"]["decode_head"]
    for anchor in spec["anchors"]:
        assert anchor.pop("pretrained")
    with torch.device("meta"):
        swins = build_from_cfg(spec | dict(img_size=64), MMSEG_MODELS).eval()
        levels = swins(torch.empty(1, 3, 64, 64))
    assert len(swins.space) == 41  # as published
    assert [level.shape[1] for level in levels] == head["in_channels"]


def test_every_snippet_is_run():
    """A new snippet needs a test here."""
    there = {
        (page.relative_to(ROOT).as_posix(), number)
        for page in PAGES
        for number in range(len(snippets(page.relative_to(ROOT))))
    }
    assert sorted(there - RUN) == []
