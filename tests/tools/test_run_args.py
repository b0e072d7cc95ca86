"""What a user can correct is one line and status 2; a fault in the program keeps its traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mmsn.deploy import costs
from mmsn.errors import MissingFile, UserError
from mmsn.stack import StackProblem
from tests.conftest import ROOT
from tests.deploy.tiny import tiny_config

Tool = Callable[[str], ModuleType]


def raises(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    "error",
    [
        UserError("width 3 is\nnot allowed: give 4"),
        StackProblem("mmseg is missing: pip install it"),
        MissingFile("config 'no.py' does not exist: give a config file"),
        OSError(28, "No space left on device", "run/vis_data/scalars.json"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_user_can_correct_is_one_line(
    tool: Tool, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    with pytest.raises(SystemExit) as caught:
        tool("_run_args").run(raises(error))
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told == f"error: {' '.join(str(error).split())}\n"


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("of another kind"),
        KeyError("rmse"),
        RuntimeError("shapes differ"),
        PermissionError(13, "no"),
        FileNotFoundError(2, "No such file or directory", "template.html"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_fault_inside_mmsn_keeps_its_traceback(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
) -> None:
    """The fault is raised by code of the package, which used to be enough to hide it."""

    def broken(*args: object) -> None:
        raise fault

    monkeypatch.setattr(costs, "segmentor_params", broken)
    tiny_config().dump(tmp_path / "c.py")
    shared, command = tool("_run_args"), tool("costs")
    with pytest.raises(type(fault)) as caught:
        shared.run(lambda: command.main([str(tmp_path / "c.py")]))
    assert caught.value is fault
    frames = [entry.name for entry in caught.traceback]
    assert frames[-3:] == ["main", "stitch_costs", "broken"]


def test_what_a_command_returns_is_its_status(tool: Tool) -> None:
    for code in (None, 0, 1):
        with pytest.raises(SystemExit) as caught:
            tool("_run_args").run(lambda code=code: code)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("shrink_anchor", ["x", "--workers", "-1"]),
        ("learngene_pool", ["x", "--seed", "-1"]),
        ("train_test", ["x.py", "--seed", "1.5"]),
    ],
)
def test_a_count_below_zero_is_refused(
    tool: Tool, capsys: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    with pytest.raises(SystemExit):
        tool(command).main(words)
    assert f"got {words[-1]!r}; give a whole number from 0" in capsys.readouterr().err


@pytest.mark.parametrize(("continues", "hint"), [(False, ""), (True, "; run the same command")])
def test_an_interrupt_is_one_line(
    tool: Tool, capsys: pytest.CaptureFixture[str], continues: bool, hint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        tool("_run_args").run(raises(KeyboardInterrupt()), continues)
    assert caught.value.code == 130
    told = capsys.readouterr().err
    assert told.startswith(f"stopped{hint}")
    assert told.count("\n") == 1


@pytest.mark.slow
def test_a_command_as_a_process() -> None:
    """One import of everything: from the command line to the line on stderr."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "report.py"), "none.json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "none.json" in line]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "Traceback" not in done.stderr
