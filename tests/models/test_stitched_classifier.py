"""Stitches that classify: timm's logits, the published FLOPs, and one classifier per anchor."""

import pytest
import timm
import torch
from timm.layers import DropPath

from mmsn.engine.initialize import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import StitchedClassifier
from mmsn.models.backbone import layer_name
from tests.tiny import tiny_anchor

SIZE = 32
# Best per group of 1 GFLOPs in the published results of ImageNet-1k, S-L: GFLOPs by stitch id.
PUBLISHED = {
    **{0: 4.61, 1: 61.60, 14: 9.52, 15: 14.27, 16: 19.01, 123: 23.73, 118: 28.47, 112: 33.21},
    **{6: 37.88, 5: 42.62, 4: 47.36, 3: 52.10, 2: 56.84},
}


def make(anchors=None, **options):
    anchors = anchors or [tiny_anchor(16, 2), tiny_anchor(24, 4)]
    options = dict(img_size=SIZE, rank=2, num_classes=5) | options
    return StitchedClassifier(anchors, **options).eval()


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = make()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def run(model, image, stitch):
    with torch.no_grad(), model.use_stitch(stitch):
        (logits,) = model(image)
    return logits


def test_an_anchor_alone_classifies_as_timm_does(tmp_path):
    anchors, whole = [], []
    for dim, depth in ((16, 2), (24, 4)):
        spec = tiny_anchor(dim, depth)
        options = {k: v for k, v in spec.items() if k != "model_name"}
        vit = timm.create_model(spec["model_name"], num_classes=5, img_size=SIZE, **options)
        for parameter in vit.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        file = tmp_path / f"{dim}.pth"
        torch.save(vit.state_dict(), file)
        anchors.append(spec | dict(checkpoint=str(file)))
        whole.append(vit.eval())
    model = make(anchors)
    model.init_weights()
    image = torch.randn(2, 3, SIZE, SIZE)
    for stitch, vit in enumerate(whole):
        assert torch.allclose(run(model, image, stitch), vit(image), atol=1e-5)


def test_every_stitch_ends_in_the_classifier_of_its_last_anchor(model):
    image = torch.randn(2, 3, SIZE, SIZE)
    for stitch in model.space:
        tokens, grid = model.anchor(stitch.segments[0].anchor).embed(image)
        joins = model.space.joins(stitch)
        for position, (anchor, start, stop) in enumerate(stitch.segments):
            if position:
                tokens = model.layer(joins[position - 1])(tokens)
            tokens = model.anchor(anchor).run(tokens, start, stop, grid)
        expected = model.classifier(anchor)(tokens)
        assert torch.allclose(run(model, image, stitch.id), expected, atol=1e-5)


def test_stitches_of_one_step_keep_the_order_of_images(model):
    image = torch.randn(4, 3, SIZE, SIZE)
    alone = [run(model, image[:2], 0), run(model, image[2:], 4)]
    model.train().set_training_stitches((0, 4))
    (logits,) = model(image)
    assert torch.allclose(logits, torch.cat(alone), atol=1e-5)
    logits.sum().backward()
    assert model.classifier(0).head.weight.grad is not None


def test_shared_beginnings_give_the_same_logits(model):
    image = torch.randn(2, 3, SIZE, SIZE)
    passes = model.share_prefixes(model.space.ids)
    for stitch in passes.trie.order:
        with torch.no_grad(), model.use_stitch(stitch, passes):
            (shared,) = model(image)
        assert torch.equal(shared, run(model, image, stitch))


def formula(stitch, joins, widths, tokens=197):
    """The published count at 224x224, part by part."""
    total = (tokens - 1) * 768 * widths[stitch.segments[0].anchor]
    for anchor, start, stop in stitch.segments:
        d = widths[anchor]
        total += (stop - start) * (12 * tokens * d * d + 2 * tokens * tokens * d + 10 * tokens * d)
    total += joins * tokens * widths[0] * widths[1]
    last = widths[stitch.segments[-1].anchor]
    return total + 5 * tokens * last + 1000 * last


@pytest.mark.parametrize(
    ("names", "widths", "count"),
    [
        (("small", "large"), (384, 1024), 134),
        (("small", "base"), (384, 768), 134),
        (("base", "large"), (768, 1024), 134),
    ],
)
def test_flops_at_224_are_the_published_ones(names, widths, count):
    anchors = [dict(model_name=f"deit3_{name}_patch16_224") for name in names]
    with torch.device("meta"):
        model = StitchedClassifier(anchors, img_size=224, rank=64)
    found = model.published_macs((224, 224))
    assert len(found) == count
    for stitch in model.space:
        assert found[stitch.id] == formula(stitch, len(stitch.segments) - 1, widths)
    if names == ("small", "large"):
        for stitch, gflops in PUBLISHED.items():
            assert found[stitch] / 1e9 == pytest.approx(gflops, abs=0.0051)
    executed = model.stitch_macs((224, 224))
    update = 197 * 64 * sum(widths)
    for stitch in model.space:
        assert executed[stitch.id] - found[stitch.id] == update * (len(stitch.segments) - 1)


def test_parameters_are_counted_one_by_one(model):
    found = model.stitch_params()
    for stitch in model.space:
        small = make(stitches=[stitch.id])
        assert found[stitch.id] == sum(p.numel() for p in small.parameters())


def test_layers_that_no_join_uses_do_not_exist(model):
    names = {layer_name(key) for s in model.space for key in model.space.joins(s)}
    assert set(model.stitching_layers) == names
    assert "0_to_1_after_1" not in names
    solved = solve_stitching_layers(model, [torch.randn(6, 3, SIZE, SIZE)])
    assert {layer_name(key) for key in solved} == names
    assert model.uninitialized == ()


def test_drop_path_is_constant_over_depth():
    anchors = [tiny_anchor(16, 2), tiny_anchor(24, 4, drop_path_rate=0.4)]
    model = make(anchors)
    rates = [[getattr(b.drop_path2, "drop_prob", 0) for b in a.vit.blocks] for a in model.anchors]
    assert rates == [[0, 0], [0.4] * 4]
    assert isinstance(model.anchor(1).vit.blocks[0].drop_path1, DropPath)
    rising = make(anchors, constant_drop_path=False).anchor(1).vit.blocks
    assert not isinstance(rising[0].drop_path1, DropPath)


def test_a_subset_has_the_classifiers_that_it_needs(model):
    image = torch.randn(2, 3, SIZE, SIZE)
    ls = next(s.id for s in model.space if s.kind == "ls")
    small = make(stitches=[ls])
    own = small.state_dict()
    assert {k.split(".")[1] for k in own if k.startswith("classifiers")} == {"0"}
    small.load_state_dict({k: model.state_dict()[k] for k in own})
    assert torch.allclose(run(small, image, ls), run(model, image, ls), atol=1e-6)


@pytest.mark.parametrize("name", ["out_indices", "eval_levels", "output_cls_token"])
def test_options_of_levels_are_refused(name):
    with pytest.raises(UserError, match="leave out"):
        make(**{name: (0,)})


def test_an_elastic_space_is_refused():
    with pytest.raises(UserError, match="elastic"):
        make([tiny_anchor(16, 4)], space="elastic")
