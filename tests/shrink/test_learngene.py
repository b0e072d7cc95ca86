"""Losses of Learngene Pool against NumPy, and that everything trains that should."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from mmsn import shrink
from mmsn.errors import UserError
from mmsn.models.anchor_classifier import AnchorClassifier
from mmsn.shrink.learngene import (
    Instance,
    InstanceDistillation,
    Outputs,
    PoolSettings,
    TransformationMatrices,
    losses,
    outputs,
)
from tests.shrink.tiny import PARENT, make_parent, unlabeled

CLASSES = 5


def make_distillation(parent, shape, seed=0, steps=8, **settings):
    torch.manual_seed(0)
    classifier = AnchorClassifier(parent, CLASSES)
    settings = PoolSettings(steps, seed=seed, **(dict(batch_size=4, lr=3e-3, alpha=0) | settings))
    return InstanceDistillation(parent, classifier, shape, settings, (64, 64), PARENT)


def test_positions_are_the_published_ones():
    assert Instance(6, 192).taps(12) == (3, 7, 11)
    assert Instance(6, 192).taps(6) == (1, 3, 5)
    assert Instance(9, 192).taps(9) == (2, 5, 8)
    assert Instance(9, 192, positions=1).taps(9) == (8,)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_losses_are_those_of_their_definition(alpha):
    torch.manual_seed(0)
    matrices = TransformationMatrices(8, 6, 2)
    own, theirs = (
        Outputs(
            torch.randn(3, CLASSES),
            [torch.randn(3, 4, width) for _ in range(2)],
            [torch.randn(3, 4, width) for _ in range(2)],
        )
        for width in (6, 8)
    )
    labels = torch.tensor([0, 4, 2])
    found = losses(own, theirs, matrices, alpha, labels if alpha else None)

    def mapped(tokens, linear):
        weight, bias = (p.detach().numpy().astype(float) for p in (linear.weight, linear.bias))
        return tokens.numpy().astype(float) @ weight.T + bias

    log_p = log_softmax(own.logits.numpy().astype(float), axis=1)
    expected = dict(logits=-(softmax(theirs.logits.numpy(), axis=1) * log_p).mean())
    for name, maps in (("blocks", matrices.blocks), ("attention", matrices.attention)):
        expected[name] = sum(
            ((mine.numpy() - mapped(yours, linear)) ** 2).mean()
            for mine, yours, linear in zip(
                getattr(own, name), getattr(theirs, name), maps, strict=True
            )
        )
    expected = {name: (1 - alpha) * value for name, value in expected.items()}
    if alpha:
        expected["labels"] = -alpha * log_p[range(3), labels.numpy()].mean()
    assert {k: v.item() for k, v in found.items()} == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_outputs_are_tokens_and_what_attention_adds(parent):
    classifier = AnchorClassifier(parent, CLASSES).eval()
    images = torch.randn(2, 3, 32, 48)
    found = outputs(parent, classifier, images, (1, 2))
    tokens, _ = parent.embed(images)
    for index, block in enumerate(parent.vit.blocks):
        attended = block.attn(block.norm1(tokens))
        tokens = block(tokens)
        if index in (1, 2):
            assert torch.allclose(found.attention[index - 1], attended, atol=1e-5)
            assert torch.allclose(found.blocks[index - 1], tokens, atol=1e-5)
    assert torch.allclose(found.logits, classifier(tokens), atol=1e-5)
    assert not any(block.attn._forward_hooks for block in parent.vit.blocks)


@pytest.mark.parametrize(("depth", "width"), [(3, 16), (2, 24)])  # 3 does not divide 4
def test_instance_classifier_and_matrices_learn_and_the_ancestor_stays(
    parent, folder, depth, width
):
    distillation = make_distillation(parent, Instance(depth, width, 2), steps=30)
    images = unlabeled(folder).batch(range(8))
    before = {k: v.clone() for k, v in distillation.maps.state_dict().items()}
    own = {k: v.clone() for k, v in distillation.child.state_dict().items()}
    ancestor = {k: v.clone() for k, v in parent.state_dict().items()}
    first = sum(distillation.terms(images).values()).item()
    distillation.run(unlabeled(folder))
    assert sum(distillation.terms(images).values()).item() < 0.9 * first
    matrices = [k for k in before if k.startswith("matrices")]
    assert len(matrices) == (8 if width < 24 else 0)
    after = distillation.maps.state_dict()
    assert not any(torch.equal(after[k], before[k]) for k in before)
    assert not torch.equal(
        distillation.child.state_dict()["vit.blocks.0.mlp.fc1.weight"],
        own["vit.blocks.0.mlp.fc1.weight"],
    )
    assert all(torch.equal(v, parent.state_dict()[k]) for k, v in ancestor.items())


def test_labels_are_learned_from(parent, folder):
    distillation = make_distillation(parent, Instance(2, 16, 1), alpha=1.0, steps=20)
    images, labels = unlabeled(folder).batch(range(4)), torch.tensor([0, 1, 2, 3])
    first = distillation.train_step([images, labels])
    assert first == pytest.approx(math.log(CLASSES), rel=0.2)
    for _ in range(10):
        last = distillation.train_step([images, labels])
    assert last < 0.8 * first
    with pytest.raises(UserError, match=r"alpha 1\.0 needs labels"):
        distillation.train_step(images)


def test_an_interrupted_distillation_ends_like_an_undisturbed_one(folder, tmp_path):
    def start():
        torch.manual_seed(0)
        return make_distillation(make_parent(), Instance(2, 16, 1), steps=4)

    whole, half = start(), start()
    whole.run(unlabeled(folder))

    class Stop(Exception):
        pass

    def stop(step, loss):
        if step == 2:
            raise Stop

    state = tmp_path / "state"
    with pytest.raises(Stop):
        half.run(unlabeled(folder), state, save_every=2, on_step=stop)
    rest = start()
    rest.resume(state)
    assert rest.step == 2
    rest.run(unlabeled(folder))
    for part in ("child", "maps"):
        expected = getattr(whole, part).state_dict()
        assert all(torch.equal(expected[k], v) for k, v in getattr(rest, part).state_dict().items())
    with pytest.raises(UserError, match="another settings"):
        make_distillation(whole.parent, Instance(2, 16, 1), steps=5).resume(state)


def test_the_start_depends_on_the_seed_alone(parent):
    torch.manual_seed(1)
    one = make_distillation(parent, Instance(2, 16, 2)).state()
    torch.rand(3)
    same = make_distillation(parent, Instance(2, 16, 2)).state()
    other = make_distillation(parent, Instance(2, 16, 2), seed=1).state()
    name = "blocks.0.mlp.fc1.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])
    assert {"norm.weight", "head.weight", "patch_embed.proj.weight"} <= set(one)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Instance(2, 20), "width 20 is not a multiple of the ancestor's head width 8"),
        (Instance(0, 16), "at least one block"),
        (Instance(2, 16, 3), "1 to 2 positions"),
        (Instance(6, 16, 5), "1 to 4 positions"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(parent, shape, message):
    with pytest.raises(UserError, match=message):
        shape.options(parent, PARENT)


def test_alpha_is_a_share():
    with pytest.raises(UserError, match=r"alpha 1\.5"):
        PoolSettings(1, alpha=1.5)


def test_defaults_are_the_published_ones():
    settings = PoolSettings(1)
    found = settings.batch_size, settings.lr, settings.weight_decay, settings.alpha
    assert found == (256, 5e-5, 0.05, 0.1)
    assert isinstance(settings, shrink.DistillSettings)
    assert np.isclose(settings.lr_at(0), 5e-5)
