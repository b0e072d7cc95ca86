"""Variants of a segmentor on real data: metrics through mmseg, passes in interleaved order."""

import pytest
import torch

from mmsn.deploy import compare, extract
from mmsn.deploy.exporting import Logits
from mmsn.errors import UserError
from mmsn.models.opening import build, with_weights
from tests.engine.conftest import NUM_VAL, SIZE, config, shapes  # noqa: F401


@pytest.fixture
def segmentor(config):  # noqa: F811
    return config, with_weights(*extract(config, build(config).state_dict(), [2]), {})


def test_each_variant_has_its_own_metrics_and_latency(segmentor):
    given, model = segmentor
    calls = []

    def first_class(image):
        calls.append(len(image))
        logits = torch.zeros(len(image), 12, *image.shape[2:])
        logits[:, 0] = 1
        return logits

    variants = {"network": Logits(model, (SIZE, SIZE)), "first class": first_class}
    results = compare(given, model, variants, (SIZE, SIZE), repeats=3)
    assert list(results) == list(variants)
    assert sum(calls[:-5]) == NUM_VAL  # then two passes to warm up and three timed ones
    assert results["network"].metrics != results["first class"].metrics
    # one class is right wherever it is, and eleven are never right
    assert results["first class"].metrics["mAcc"] == pytest.approx(100 / 12, abs=2)
    assert all(result.latency.repeats == 3 for result in results.values())


def test_images_of_another_size_are_refused(segmentor):
    given, model = segmentor
    with pytest.raises(
        UserError, match=r"an image has size \(32, 32\), but the files are for \(64, 64\)"
    ):
        compare(given, model, {"network": Logits(model, (64, 64))}, (64, 64))


def test_it_can_stop_early(segmentor):
    given, model = segmentor
    seen = []
    run = Logits(model, (SIZE, SIZE))

    def count(image):
        seen.append(len(image))
        return run(image)

    compare(given, model, {"network": count}, (SIZE, SIZE), max_images=1, repeats=1)
    assert seen[:-3] == [2]  # the first batch, whole
