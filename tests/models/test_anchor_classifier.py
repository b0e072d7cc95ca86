"""Final norm, pooling and classifier are those of timm, in values, weights and costs."""

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.models.anchor_classifier import AnchorClassifier
from tests.tiny import tiny_anchor, tiny_eva

TINY = {key: value for key, value in tiny_anchor(24, 3).items() if key != "model_name"}
POOLS = {
    "deit3_small_patch16_224": TINY,
    "vit_small_patch16_224": TINY,  # final norm after pooling, for the mean
    "vit_small_plus_patch16_dinov3_qkvb": tiny_eva(24, 3) | dict(global_pool="avg"),
}


def pair(name, file=None, num_classes=7, **changes):
    """timm's whole model with random weights, and our two halves with the same."""
    options = {k: v for k, v in (POOLS[name] | changes).items() if k != "model_name"}
    whole = timm.create_model(name, num_classes=7, img_size=(32, 48), **options).eval()
    for parameter in whole.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    if file is not None:
        torch.save(whole.state_dict(), file)
    anchor = Anchor(name, (32, 48), checkpoint=None if file is None else str(file), **options)
    anchor.init_weights()
    classifier = AnchorClassifier(anchor, num_classes).eval()
    classifier.init_weights(anchor)
    return whole, anchor.eval(), classifier


@torch.no_grad()
@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("name", POOLS)
def test_logits_are_those_of_timm(name, pool, tmp_path):
    torch.manual_seed(0)
    whole, anchor, classifier = pair(name, tmp_path / "w.pth", global_pool=pool)
    image = torch.randn(2, 3, 32, 48)
    tokens, grid = anchor.embed(image)
    tokens = anchor.run(tokens, 0, 3, grid)
    assert torch.allclose(classifier(tokens), whole(image), atol=1e-5)
    assert whole(image).std() > 1e-2


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_macs_are_what_fvcore_counts(pool):
    _, _, classifier = pair("vit_small_patch16_224", global_pool=pool)
    counted = FlopCountAnalysis(classifier, torch.zeros(1, 7, 24))
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted.set_op_handle("aten::mean", None)  # elementwise, free here
    assert classifier.macs(7) == counted.total()


def test_other_classes_start_anew_and_norms_are_loaded(tmp_path):
    whole, _, classifier = pair("deit3_small_patch16_224", tmp_path / "w.pth", num_classes=3)
    assert classifier.head.weight.shape == (3, 24)
    assert torch.equal(classifier.norm.weight, whole.norm.weight)
    assert (classifier.head.bias == 0).all()


def test_weights_of_a_backbone_are_refused(tmp_path):
    whole, anchor, classifier = pair("deit3_small_patch16_224", tmp_path / "w.pth")
    state = {k: v for k, v in whole.state_dict().items() if not k.startswith("norm.")}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"norm\.bias, norm\.weight"):
        classifier.init_weights(anchor)


def test_pretrained_classifiers_come_from_timm(monkeypatch):
    whole, anchor, classifier = pair("deit3_small_patch16_224")
    asked = {}

    def create_model(name, pretrained, **options):
        asked.update(name=name, pretrained=pretrained, **options)
        return whole

    monkeypatch.setattr(timm, "create_model", create_model)
    anchor.pretrained = True
    classifier.init_weights(anchor)
    assert (asked["pretrained"], asked["num_classes"]) == (True, 7)
    assert torch.equal(classifier.head.weight, whole.head.weight)


@pytest.mark.parametrize(
    ("name", "what"),
    [("vit_base_patch16_siglip_224", "pooling 'map'"), ("deit_tiny_distilled_patch16_224", "two")],
)
def test_other_ways_of_classifying_are_refused(name, what):
    with torch.device("meta"):
        anchor = Anchor(name, (32, 32), **TINY)
    with pytest.raises(UserError, match=what):
        AnchorClassifier(anchor, 7)
