"""Ranks that were started differently are refused; real processes are in test_distributed."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmsn.engine.hooks import rank_check_hook
from mmsn.engine.hooks.rank_check_hook import RankCheckHook, refuse_differences
from mmsn.errors import UserError


@pytest.fixture
def together(monkeypatch):
    """``together(check, ...)`` runs one check per rank; gives what each rank was told."""

    def run(*checks):
        sent, told = [], []
        monkeypatch.setattr(rank_check_hook, "get_world_size", lambda: len(checks))
        monkeypatch.setattr(
            rank_check_hook, "all_gather_object", lambda mine: sent.append(mine) or [mine]
        )
        for check in checks:  # each rank sends; none can differ from itself
            check()
        monkeypatch.setattr(rank_check_hook, "all_gather_object", lambda mine: sent)
        for check in checks:
            try:
                check()
                told.append(None)
            except UserError as error:
                told.append(str(error))
        return told

    return run


def facts(**values):
    return lambda: refuse_differences(values)


def test_one_process_has_nothing_to_compare():
    refuse_differences({"seed": object()})


def test_equal_facts_pass(together):
    same = dict(seed=1, groups=((0, 1), (2,)))
    assert together(facts(**same), facts(**same)) == [None, None]


def test_the_first_difference_is_named_on_every_rank(together):
    told = together(facts(a=1, seed=1, lr=0.1), facts(a=1, seed=1, lr=0.1), facts(a=1, seed=5))
    assert (
        told
        == [
            "rank 2 was started with another seed than rank 0 (5 instead of 1): "
            "start every rank with the same config and options"
        ]
        * 3
    )


def test_a_fact_that_one_rank_lacks_is_a_difference(together):
    told = together(facts(a=1), facts(a=1, seed=5))
    assert "another seed than rank 0 (5 instead of nothing)" in told[1]
    assert told[0] == told[1]


def test_a_difference_behind_the_part_that_is_shown_counts(together):
    first, second = together(facts(x="a" * 99), facts(x="a" * 98 + "b"))
    assert first == second
    assert "another x than rank 0" in first


def started(hooks=(), seed=0, **cfg):
    """A check by the hook on a Runner of this config."""
    runner = SimpleNamespace(hooks=hooks, seed=seed, iter=0, cfg=Config(cfg))
    return lambda: RankCheckHook().before_train(runner)


class Draws:
    """A hook that draws stitches."""

    def __init__(self, seed, groups):
        self.seed, self.groups = seed, groups


@pytest.mark.parametrize(
    ("mine", "name"),
    [
        (started(seed=1), "random seed"),
        (started(optim_wrapper=dict(lr=0.1)), "optim_wrapper"),
        (started(train_dataloader=dict(batch_size=4)), "batch_size"),
        (started([Draws(0, ((0,), (1,)))]), "seed of Draws"),
    ],
)
def test_the_hook_compares_config_seed_and_sampling(together, mine, name):
    told = together(started(), mine)
    assert told[0] == told[1]
    assert f"rank 1 was started with another {name} than rank 0" in told[0]


def test_the_hook_compares_budget_groups(together):
    told = together(started([Draws(0, ((0,), (1,)))]), started([Draws(0, ((0, 1),))]))
    assert "another budget groups of Draws than rank 0" in told[0]


def test_paths_may_differ(together):
    first, second = (
        started(work_dir=f"/{host}/run", train_dataloader=dict(dataset=f"/{host}/data"))
        for host in "ab"
    )
    assert together(first, second) == [None, None]
