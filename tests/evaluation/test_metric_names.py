"""Direction, unit and digits of metrics."""

from mmsn.evaluation.metric_names import metric_label, shown


def test_labels_and_digits():
    assert metric_label("mIoU") == "mIoU (%)"
    assert metric_label("depth/rmse") == "depth/rmse (m, lower is better)"
    assert metric_label("abs_rel") == "abs_rel (lower is better)"
    assert metric_label("d1") == "d1"
    assert [shown(v) for v in (45.5, 0.5131, 5.12345, 100, float("nan"))] == [
        "45.50",
        "0.5131",
        "5.123",
        "100.0",
        "nan",
    ]
