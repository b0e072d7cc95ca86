"""Areas by one count are those of mmseg's histograms, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.evaluation import IoUMetric

from mmsn.evaluation import iou
from mmsn.evaluation.iou import BatchLabels, LabelSide, counts_areas


def metric(classes=5, cls=IoUMetric, **options):
    made = cls(**options)
    made.dataset_meta = dict(classes=[str(i) for i in range(classes)])
    return made


def sample(prediction, labels):
    return dict(pred_sem_seg=dict(data=prediction[None]), gt_sem_seg=dict(data=labels[None]))


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert type(a) is type(b) is tuple
        assert len(a) == len(b) == 4
        for x, y in zip(a, b, strict=True):
            assert (x.dtype, x.device) == (y.dtype, y.device)
            assert torch.equal(x, y)


@settings(max_examples=60)
@given(
    classes=st.integers(2, 60),
    ignored=st.sampled_from([255, 0, 3, -1]),
    kind=st.sampled_from([torch.uint8, torch.int64]),
    shape=st.tuples(st.integers(1, 40), st.integers(2, 40)),
    surplus=st.integers(0, 3),
    foreign=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_results_are_those_of_mmseg(classes, ignored, kind, shape, surplus, foreign, seed):
    torch.manual_seed(seed)
    labels = torch.randint(0, classes, shape)
    labels[torch.rand(shape) < 0.2] = ignored
    if foreign:  # no class, and not ignored either
        labels[torch.rand(shape) < 0.1] = 200
    labels = labels.to(kind)
    predictions = [torch.randint(0, classes + surplus, shape) for _ in range(3)]
    ours, theirs = (metric(classes, ignore_index=ignored) for _ in range(2))
    batch = BatchLabels()
    for prediction in predictions:
        batch.process(ours, None, [sample(prediction, labels), sample(prediction, 0 * labels)])
        theirs.process(None, [sample(prediction, labels), sample(prediction, 0 * labels)])
    assert_equal(ours.results, theirs.results)
    assert counts_areas(ours)


def test_predictions_of_one_channel_are_numbers():
    prediction = (torch.rand(20, 30) > 0.5).float()
    labels = torch.randint(0, 2, (20, 30), dtype=torch.uint8)
    ours, theirs = metric(2), metric(2)
    BatchLabels().process(ours, None, [sample(prediction, labels)])
    theirs.process(None, [sample(prediction, labels)])
    assert_equal(ours.results, theirs.results)


def test_labels_are_looked_at_once_per_image_and_kind(monkeypatch):
    made = []

    class Counting(LabelSide):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(iou, "LabelSide", Counting)
    labels = torch.randint(0, 5, (2, 6, 7))
    batch = BatchLabels()
    for _ in range(4):
        samples = [sample(torch.randint(0, 5, (6, 7)), one) for one in labels]
        batch.process(metric(), None, samples)
        batch.process(metric(ignore_index=1), None, samples)
    assert len(made) == 2 * 2


class Own(IoUMetric):
    def process(self, data_batch, data_samples):
        self.results.append("mine")


@pytest.mark.parametrize(
    "other",
    [
        lambda tmp: metric(cls=Own),
        lambda tmp: metric(classes=1),
        lambda tmp: metric(output_dir=str(tmp)),
        lambda tmp: metric(format_only=True, output_dir=str(tmp)),
    ],
    ids=["subclass", "one class", "pictures", "pictures alone"],
)
def test_other_metrics_are_left_alone(other, tmp_path):
    ours, theirs = other(tmp_path), other(tmp_path)
    assert not counts_areas(ours)
    classes = len(ours.dataset_meta["classes"])
    one = sample(torch.randint(0, classes, (9, 8)), torch.randint(0, classes, (9, 8)))
    one["img_path"] = "picture.jpg"
    BatchLabels().process(ours, None, [one])
    theirs.process(None, [one])
    if type(ours) is Own:
        assert ours.results == ["mine"]
    else:
        assert_equal(ours.results, theirs.results)
    assert (tmp_path / "picture.png").exists() == (ours.output_dir is not None)
