"""The command ``mmsn``: it finds the scripts of a checkout and of a wheel, and imports nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    path.stem.replace("_", "-")
    for path in (ROOT / "tools").rglob("*.py")
    if not path.stem.startswith("_")
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A folder laid out as a wheel is, with a package that must not be imported."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "mmsn_cli", site / "mmsn_cli")
    shutil.copytree(ROOT / "tools", site / "mmsn" / ".mim" / "tools")
    (site / "mmsn" / "__init__.py").write_text("raise SystemExit('mmsn was imported')\n")
    return site


def mmsn(
    site: Path, *words: str, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmsn_cli", *words],
        cwd=cwd or site.parent,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("layout", ["wheel", "checkout"])
def test_every_script_is_listed_with_a_line(layout: str, wheel: Path, tmp_path: Path) -> None:
    done = mmsn(wheel if layout == "wheel" else ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    usage, *lines = [line for line in done.stdout.splitlines() if line]
    assert usage.startswith("usage: mmsn COMMAND")
    listed = dict(line.strip().split(maxsplit=1) for line in lines)
    assert listed.keys() == NAMES >= {"train", "test", "costs", "convert-snnetv2", "shapes"}
    assert listed["train"] == "Train a segmentor."
    assert mmsn(wheel, "--help").stdout == mmsn(wheel).stdout


def test_help_names_the_command_and_needs_no_package(wheel: Path) -> None:
    for words in (("depth-pictures", "-h"), ("depth_pictures", "-h")):
        done = mmsn(wheel, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: mmsn depth-pictures [-h]")


def test_a_command_gets_its_words_and_gives_its_status(wheel: Path, tmp_path: Path) -> None:
    script = "'''Count words.\n\nNot this line.'''\nimport sys\nfrom _run_args import run\n"
    script += "print(sys.argv, __name__, __file__)\nrun(lambda: len(sys.argv))\n"
    path = wheel / "mmsn" / ".mim" / "tools" / "count_words.py"
    path.write_text(script)
    done = mmsn(wheel, "count-words", "-x", "a b")
    assert done.returncode == 3
    assert done.stdout.strip() == f"['mmsn count-words', '-x', 'a b'] __main__ {path}"
    assert "count-words      Count words.\n" in mmsn(wheel).stdout


@pytest.mark.parametrize(
    ("word", "hint"), [("trian", "did you mean train? "), ("gradio", ""), ("_run_args", "")]
)
def test_an_unknown_command_is_one_line(wheel: Path, word: str, hint: str) -> None:
    done = mmsn(wheel, word)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no command {word!r}; {hint}")
    assert done.stderr.endswith("mmsn lists them\n")
    assert done.stderr.count("\n") == 1


def test_an_install_without_scripts_is_one_line(wheel: Path) -> None:
    shutil.rmtree(wheel / "mmsn" / ".mim")
    done = mmsn(wheel, "train")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the scripts of mmsn are not installed here")


@pytest.mark.skipif(find_spec("argcomplete") is None, reason="needs mmsn[completion]")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mmsn tr", {"train", "train-test"}),
        ("mmsn train --res", {"--resume"}),
        ("mmsn benchmark c.py k.pth --latency ", {"none", "frontier", "all"}),
    ],
)
def test_a_shell_completes_commands_and_flags(wheel: Path, line: str, expected: set[str]) -> None:
    found = wheel / "found"
    mmsn(
        wheel,
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_STDOUT_FILENAME=str(found),
        _ARGCOMPLETE_SUPPRESS_SPACE="1",
        _ARGCOMPLETE_IFS="\n",
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
    )
    assert set(found.read_text().split()) == expected
