# PYTHON_ARGCOMPLETE_OK
"""The command ``mmsn``: runs one of the scripts in ``tools/``, from anywhere.

    mmsn                  # lists the commands
    mmsn train CONFIG     # runs tools/train.py
    torchrun --nproc_per_node 8 -m mmsn_cli train CONFIG --launcher pytorch

The scripts lie in the checkout of an editable install, and in ``mmsn/.mim/tools`` of any other,
where ``mim run mmsn NAME`` looks for them, too. Every file whose name does not begin with ``_`` is
a command: ``tools/a_b.py`` is ``mmsn a-b``.

Left out on purpose: arguments and errors, which are each script's own. This module stands outside
the package and does not import it, so that lists, help and completion need no PyTorch.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

MARK = "_run_args.py"  # distinguishes our folder from any other that is called "tools"


def tools_folder() -> Path:
    """The folder of the scripts.

    Raises:
        SystemExit: the package is not installed, or was installed without them.
    """
    spec = find_spec("mmsn")
    for package in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        for folder in (package / ".mim" / "tools", package.parent / "tools"):
            if (folder / MARK).is_file():
                return folder
    raise SystemExit("error: the scripts of mmsn are not installed here: reinstall mmsn with pip")


def commands(folder: Path) -> dict[str, Path]:
    """Scripts by command name, in alphabetic order; those of subfolders come last."""
    files = [*sorted(folder.glob("[!_]*.py")), *sorted(folder.glob("[!_.]*/[!_]*.py"))]
    return {file.stem.replace("_", "-"): file for file in files}


def summary(file: Path) -> str:
    """The first line of a script's docstring."""
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


def listing(known: dict[str, Path]) -> str:
    """What ``mmsn`` alone prints."""
    width = max(map(len, known))
    lines = [f"  {name:<{width}}  {summary(file)}" for name, file in known.items()]
    return "\n".join(["usage: mmsn COMMAND ...; mmsn COMMAND -h tells more", "", *lines])


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command, or list them."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = commands(tools_folder())
    if "_ARGCOMPLETE" in os.environ:
        words = _words_to_complete(known)
    if not words or words[0] in ("-h", "--help"):
        print(listing(known))
        return
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("mmsn"))
        return
    name = words[0].replace("_", "-")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        print(f"error: no command {words[0]!r}; {hint}mmsn lists them", file=sys.stderr)
        raise SystemExit(2)
    execute(known[name], f"mmsn {name}", words[1:])


def execute(file: Path, name: str, words: Sequence[str]) -> None:
    """Run a script as Python does when it is called by its path, except that its name is given.

    ``runpy.run_path`` would overwrite the name, which help and errors show.
    """
    module = ModuleType("__main__")
    module.__file__ = str(file)
    sys.modules["__main__"] = module  # where pickles of worker processes look
    sys.argv = [name, *words]
    sys.path.insert(0, str(file.parent))  # scripts import their neighbors
    exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)


def _words_to_complete(known: dict[str, Path]) -> list[str]:
    """The command whose arguments a shell wants completed; completes the command itself and exits.

    argcomplete asks by running this with the line in ``COMP_LINE``, up to ``COMP_POINT``. In
    ``_ARGCOMPLETE`` stands how many of its words come before the arguments, to which a command
    adds one: its own name.
    """
    words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    if len(words) > 2 and words[1].replace("_", "-") in known:
        os.environ["_ARGCOMPLETE"] = str(int(os.environ["_ARGCOMPLETE"]) + 1)
        return words[1:2]
    import argcomplete

    parser = argparse.ArgumentParser(prog="mmsn")
    parser.add_argument("command", choices=known)
    argcomplete.autocomplete(parser)
    raise SystemExit(0)  # not reached: autocomplete exits
