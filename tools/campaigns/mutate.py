"""Change one operator or number at a time in the code, and see whether its tests notice.

    python tools/campaigns/mutate.py --mutants 100

A mutant is one change in one function: a comparison, an arithmetic or boolean operator, a number, a
condition, a default, or a returned value. It is killed when a test fails. One whose tests take
several times as long as without a change has timed out. The others survive. Those that survived or
timed out are printed as ``FILE:LINE old -> new``, for a person to look at: some change nothing that
can be observed.

mutmut and cosmic-ray start an interpreter per mutant, 5 s of imports each. Here every mutant is a
fork of one process that has imported everything but the package's own modules under change.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, positive, run

ROOT = Path(__file__).resolve().parents[2]
# Files that are changed, and the tests that look at them.
TARGETS = {
    "mmsn/stitching": ["tests/stitching"],
    "mmsn/engine/chunks.py": ["tests/engine/test_chunks.py"],
    "mmsn/engine/resume.py": ["tests/engine/test_resume.py"],
    "mmsn/engine/loops.py": ["tests/engine/test_loops.py", "tests/engine/test_runs.py"],
    "mmsn/engine/pareto.py": ["tests/engine/test_pareto.py", "tests/engine/test_pareto_chunks.py"],
    **{
        f"mmsn/engine/hooks/{name}_hook.py": [f"tests/engine/hooks/test_{name}_hook.py"]
        for name in ("checkpoint", "finite", "label", "rank_check")
    },
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Pow: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Div: ast.Mult, ast.Mod: ast.FloorDiv},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And},
}


NEVER = float("inf")  # seconds
Outcome = Literal["killed", "survived", "timed out"]


@dataclass(frozen=True)
class Mutant:
    """One change: ``source`` is the whole changed file."""

    file: Path
    line: int
    change: str
    source: str


def mutants(file: Path) -> Iterator[Mutant]:
    """All of a file."""
    text = file.read_text()
    tree = ast.parse(text)
    skipped = {id(n) for node in ast.walk(tree) for n in _not_code(node)}
    places = [node for node in ast.walk(tree) if id(node) not in skipped]
    for number, node in enumerate(places):
        for index in range(len(list(_variants(node)))):
            changed = copy.deepcopy(tree)
            # The copy is walked in the same order.
            skipped_there = {id(n) for other in ast.walk(changed) for n in _not_code(other)}
            there = [n for n in ast.walk(changed) if id(n) not in skipped_there][number]
            before = ast.unparse(there)
            list(_variants(there))[index]()
            after = ast.unparse(there)
            if before != after:
                source = ast.unparse(ast.fix_missing_locations(changed))
                yield Mutant(file, getattr(node, "lineno", 0), f"{before} -> {after}", source)


def _not_code(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, annotations and messages of errors, which no test should hold in place."""
    parts: list[ast.AST | None] = []
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
        parts.append(node.body[0])
    if isinstance(node, (ast.FunctionDef, ast.arg)):
        parts.append(node.returns if isinstance(node, ast.FunctionDef) else node.annotation)
    if isinstance(node, ast.AnnAssign):
        parts.append(node.annotation)
    if isinstance(node, ast.Raise):
        parts.append(node.exc)
    if isinstance(node, ast.JoinedStr):
        parts.append(node)
    for part in parts:
        if part is not None:
            yield from ast.walk(part)


def _variants(node: ast.AST) -> Iterator:
    """Functions that change this node in place."""
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPS:
        yield lambda: setattr(node, "op", SWAPS[type(node.op)]())
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            if type(operator) in SWAPS:
                yield lambda place=place, operator=operator: node.ops.__setitem__(
                    place, SWAPS[type(operator)]()
                )
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield lambda: setattr(node, "value", not node.value)
        elif isinstance(node.value, (int, float)):
            yield lambda: setattr(node, "value", node.value + 1)
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Return) and node.value is not None:
        yield lambda: setattr(node, "value", ast.Constant(None))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda: setattr(node, "op", ast.UAdd())


class SlowLast:
    """A pytest plugin: a mutant that a quick test kills costs no slow one."""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Order by the marker, and otherwise as collected."""
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def outcome(mutant: Mutant | None, tests: list[str], limit: float) -> Outcome:
    """Run the tests in a fork where the module has this source, up to the first failure.

    Args:
        mutant: None runs them without a change.
        tests: files or folders.
        limit: seconds, after which the fork is killed.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            if mutant is not None:
                _install(mutant)
            if not all(name.startswith("tests/stitching") for name in tests):
                del sys.modules["mmsn"]  # the whole package, with its __init__
            import pytest

            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-p", "no:randomly"]
            code = int(pytest.main([*options, *tests], plugins=[SlowLast()]))
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timed out"


def _install(mutant: Mutant) -> None:
    """Let the changed source take the module's place, in whatever imports it from now on."""
    name = ".".join(mutant.file.relative_to(ROOT).with_suffix("").parts)

    class Changed(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str):  # type: ignore[no-untyped-def]
            return compile(mutant.source, str(mutant.file), "exec")

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname, path, target=None):  # type: ignore[no-untyped-def]
            if fullname == name:
                loader = Changed(fullname, str(mutant.file))
                return importlib.util.spec_from_loader(fullname, loader)
            return None

    sys.meta_path.insert(0, Finder())


def _import_the_stack() -> None:
    """Everything that tests import, but nothing of the package: its modules are what changes."""
    package = types.ModuleType("mmsn")
    package.__path__ = [str(ROOT / "mmsn")]
    sys.modules["mmsn"] = package  # whose __init__ does not run
    importlib.import_module("mmsn.compat").prepare()
    for name in ("hypothesis", "pytest", "timm.models", "mmseg.apis", "scipy.io", "torch"):
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.startswith("mmsn.")]:
        del sys.modules[name]
    sys.modules["torch"].set_num_threads(1)  # a process with threads must not be forked


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--mutants", type=positive, default=100, help="drawn of all (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--only", default="", help="files whose path has this in it")
    parser.add_argument(
        "--limit",
        type=float,
        default=5,
        help="time for the tests of one, as a multiple of what they take without a change "
        "(default: 5)",
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; the last line has the counts as JSON."""
    args = parse_args(argv)  # without prepare(): it would import the package
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("MMSN_EXAMPLES", "5")
    _import_the_stack()
    found = [
        (mutant, tests)
        for target, tests in TARGETS.items()
        for file in (sorted((ROOT / target).glob("*.py")) or [ROOT / target])
        if args.only in str(file.relative_to(ROOT))
        for mutant in mutants(file)
    ]
    chosen = random.Random(args.seed).sample(found, min(args.mutants, len(found)))
    limits: dict[tuple[str, ...], float] = {}
    for tests in dict.fromkeys(tuple(tests) for _, tests in chosen):
        start = time.monotonic()
        if outcome(None, list(tests), NEVER) != "survived":
            raise SystemExit(f"error: {' '.join(tests)} fail without a change: mend them first")
        limits[tests] = args.limit * (time.monotonic() - start)
    counts: Counter[str] = Counter(dict.fromkeys(get_args(Outcome), 0))
    for number, (mutant, tests) in enumerate(chosen):
        found_out = outcome(mutant, tests, limits[tuple(tests)])
        counts[found_out] += 1
        if found_out != "killed":
            place = f"{mutant.file.relative_to(ROOT)}:{mutant.line}"
            change = " ".join(mutant.change.split())[:150]
            print(f"{found_out}: {place} {change}", flush=True)
        print(f"\r{number + 1} of {len(chosen)}", end="", file=sys.stderr)
    print(json.dumps(dict(all=len(found), drawn=len(chosen)) | counts))
    return 0


if __name__ == "__main__":
    run(main)
