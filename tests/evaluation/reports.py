"""Small reports for the tests of everything that reads one."""

from mmsn.evaluation import ParetoReport, StitchResult
from mmsn.evaluation.depth_metric import DEPTH_METRICS
from mmsn.evaluation.report import Latency

G = 10**9
FAST = Latency(p50_ms=1, p90_ms=2, repeats=3)


def result(stitch_id, macs, value, metric="mIoU"):
    return StitchResult(
        id=stitch_id,
        kind="anchor",
        segments=((0, 0, 12),),
        macs=macs,
        params=1000,
        metrics={metric: value},
    )


def report(*results, **changes):
    fields = dict(
        title="a title",
        config="c.py",
        checkpoint="x.pth",
        checkpoint_sha256="",
        image_size=(64, 96),
        images=3,
        of_images=4,
        software={},
        stitches=results,
    )
    return ParetoReport(**fields | changes)


def depth_report(prefix=""):
    """Three stitches with depth metrics; the one in the middle is worse than the cheapest."""
    results = []
    for i, (macs, rmse) in enumerate([(5, 0.51312), (7, 0.5242), (9, 0.38734)]):
        metrics = {f"{prefix}{k}": 0.9 if k[:1] == "d" else 0.1 for k in DEPTH_METRICS}
        metrics[f"{prefix}rmse"] = rmse
        one = result(i, macs * 10**9, 0.0)
        results.append(one.model_copy(update=dict(metrics=metrics)))
    return report(*results)


def stitches(values, metric="mIoU"):
    """Networks of 2, 3, ... GFLOPs: the first block of the small anchor, then more of the large."""
    units = len(values) - 1
    segments = [((0, 0, units),)] + [
        ((0, 0, units - k), (1, units - k, units)) for k in range(1, units)
    ]
    segments.append(((1, 0, units),))
    kinds = ["anchor", *(["sl"] * (units - 1)), "anchor"]
    return [
        result(k, (2 + k) * G, v, metric).model_copy(update=dict(segments=s, kind=kind))
        for k, (v, s, kind) in enumerate(zip(values, segments, kinds, strict=True))
    ]
