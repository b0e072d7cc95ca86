"""``type='mmsn.X'`` is found wherever a config asks from."""

from __future__ import annotations

from collections.abc import Iterator

import mmengine.registry.root as root
import mmseg.registry
import pytest
from mmengine.registry import DefaultScope, Registry, init_default_scope
from torch import nn

from mmsn import registry

ROOTS = {name: node for name, node in vars(root).items() if isinstance(node, Registry)}


class _Probe(nn.Module):
    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.width = width


@pytest.fixture
def probe() -> Iterator[None]:
    registry.MODELS.register_module("RegistryProbe", module=_Probe)
    registry.HOOKS.register_module("RegistryProbe", module=_Probe)
    yield
    del registry.MODELS.module_dict["RegistryProbe"]
    del registry.HOOKS.module_dict["RegistryProbe"]


@pytest.fixture(autouse=True)
def _no_scope_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    # Runners of other tests leave theirs behind
    monkeypatch.setattr(DefaultScope, "_instance_dict", type(DefaultScope._instance_dict)())


@pytest.fixture(params=["mmseg", "mmsn", None])
def default_scope(request: pytest.FixtureRequest) -> None:
    if request.param is not None:
        DefaultScope.get_instance("test", scope_name=request.param)


@pytest.mark.parametrize("name", sorted(ROOTS))
def test_every_root_registry_has_a_child(name: str) -> None:
    child = getattr(registry, name)
    assert child.scope == "mmsn"
    assert child.parent is ROOTS[name]
    assert child.name == ROOTS[name].name
    assert ROOTS[name].children["mmsn"] is child


@pytest.mark.parametrize("name", ["MODELS", "HOOKS"])
@pytest.mark.usefixtures("probe", "default_scope")
def test_scoped_types_build_from_every_registry(name: str) -> None:
    config = dict(type="mmsn.RegistryProbe", width=3)
    for builder in (getattr(mmseg.registry, name), ROOTS[name], getattr(registry, name)):
        assert builder.build(dict(config)).width == 3


@pytest.mark.usefixtures("default_scope")
def test_scoped_mmseg_types_still_build() -> None:
    loss = registry.MODELS.build(dict(type="mmseg.DiceLoss"))
    assert type(loss).__module__.startswith("mmseg.")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("HOOKS", dict(type="IterTimerHook")),
        ("LOG_PROCESSORS", dict(type="LogProcessor")),
        ("VISBACKENDS", dict(type="LocalVisBackend", save_dir="unused")),
    ],
)
def test_mmengine_types_build_under_scope_mmsn(name: str, config: dict[str, str]) -> None:
    with DefaultScope.overwrite_default_scope("mmsn"):
        assert type(ROOTS[name].build(dict(config))).__name__ == config["type"]


def test_unscoped_types_build_under_scope_mmsn(probe: None) -> None:
    with DefaultScope.overwrite_default_scope("mmsn"):
        assert root.MODELS.build(dict(type="RegistryProbe", width=2)).width == 2


def test_init_default_scope_accepts_mmsn() -> None:
    init_default_scope("mmsn")
    assert DefaultScope.get_current_instance().scope_name == "mmsn"
