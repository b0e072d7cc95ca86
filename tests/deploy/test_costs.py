"""A config's costs, without building it."""

import torch
from mmengine.config import Config

from mmsn.deploy.costs import cost_table, group_costs, stitch_costs
from mmsn.models import activation_bytes, build, segmentor_macs, segmentor_params
from tests.conftest import ROOT
from tests.deploy.tiny import tiny_config, tiny_model


def test_costs_are_those_of_the_real_model():
    model, meta = tiny_model(), build(tiny_config(), "meta")
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    for size in ((32, 32), (64, 48)):
        costs = stitch_costs(meta, size, batch_size=2)
        assert {c.stitch.id: c.macs for c in costs} == segmentor_macs(model, size)
        assert {c.stitch.id: c.params for c in costs} == segmentor_params(model)
        memory = activation_bytes(model, size, batch_size=2)
        assert {c.stitch.id: c.activation_bytes for c in costs} == memory
    assert [c.macs for c in costs] == sorted(c.macs for c in costs)


def test_the_published_flops_of_a_whole_config():
    """The anchors' FLOPs are those of the SN-Netv2 release (its stitches merge their updates)."""
    name = "snnetv2_deit3-s-l-r16_setr-naive_8xb2-160k_ade20k-512x512.py"
    model = build(Config.fromfile(ROOT / "configs/setr" / name), "meta")
    costs = {c.stitch.id: c for c in stitch_costs(model)}
    assert len(costs) == 134
    assert round(costs[1].macs / 1e9) == 363
    groups = group_costs(tuple(costs.values()))
    assert sum(map(len, groups)) == 134
    assert [c.stitch.id for c in (*groups[0], *groups[-1])] == [0, 1]


def test_the_table_names_stitches_and_groups():
    costs = stitch_costs(build(tiny_config(), "meta"))
    each = cost_table([(cost,) for cost in costs])
    assert all(f"{c.stitch.id} ({c.stitch.kind}): {c.stitch} " in each for c in costs)
    together = cost_table([costs], {costs[0].stitch.id: 7.25})
    assert f"{len(costs)} stitches: 0, " in together
    assert f"{costs[0].macs / 1e9:.4g} - {costs[-1].macs / 1e9:.4g}" in together
    assert "7.25" in together
    assert "p50" not in each


def test_nothing_is_allocated():
    """What counts the costs of 300 million parameters makes no tensor that has values."""
    made = []

    class Record(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            made.extend(
                t.numel()
                for t in torch.utils._pytree.tree_leaves(out)
                if isinstance(t, torch.Tensor) and t.device.type != "meta"
            )
            return out

    name = "snnetv2_deit3-s-l-r16_setr-naive_8xb2-160k_ade20k-512x512.py"
    config = Config.fromfile(ROOT / "configs/setr" / name)
    with Record():
        stitch_costs(build(config, "meta"))
    assert sum(made) < 1000
