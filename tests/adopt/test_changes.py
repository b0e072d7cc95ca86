"""Changes are recorded once, and only where there is one."""

from mmsn.adopt.changes import Change, ChangeLog


def test_a_value_that_stays_is_no_change():
    log, owner = ChangeLog(), dict(a=1)
    log.set("model", owner, "a", 1, "never")
    assert log.changes == []
    log.set("model", owner, "a", 2, "because")
    log.set("", owner, "b", [3], "it was missing")
    assert owner == dict(a=2, b=[3])
    assert [str(change) for change in log.changes] == [
        "model.a: 1 -> 2 (because)",
        "b: None -> [3] (it was missing)",
    ]
    assert log.changes[0] == Change("model.a", "1 -> 2", "because")
