"""README and docs are true: their commands parse, and what they cite exists.

Commands are not run, only given to the parsers of the tools that they name. Snippets run in
``test_snippets.py``. What a page shows of the output, and figures that were measured, are not
checked.
"""

import argparse
import ast
import glob
import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.registry import root

import mmsn_cli
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
LEAVES = {p.name for p in ROOT.glob("configs/*/*.py")}
ASSIGNMENT = re.compile(r"(\w+)=(\S*)")
# Names of files that a command writes, or that stand for the reader's own
WRITTEN = {"config.py", "pareto.json", "pareto.1.json", "recipe.json", "predict.py"}
WRITTEN.add("FAMILY_METHOD_SEED.json")


def by_name(path):
    return path.stem


def fenced(path, language):
    """The blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def spans(path):
    """Inline code of a page, without its fenced blocks."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(block):
    """The commands of a shell block as words, with its variables put in and globs expanded."""
    variables, found = {}, []
    for line in block.replace("\\\n", " ").splitlines():
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words = shlex.split(line, comments=True)
        while words and (assigned := ASSIGNMENT.fullmatch(words[0])):
            variables[assigned[1]] = assigned[2]
            words = words[1:]
        if words:
            found.append([part for word in words for part in expand(word)])
    return found


def expand(word):
    if "*" not in word:
        return [word]
    matches = sorted(glob.glob(word, root_dir=ROOT))
    assert matches, f"{word} matches no file"
    return matches


class Parsed(BaseException):
    """Ends a tool once it has read its arguments; no ``except Exception`` stops it."""


@pytest.fixture
def parse(monkeypatch):
    """Run a tool up to the end of its parsing, and return the parser that it uses."""

    def parse_args(self, args=None, namespace=None):
        read(self, args, namespace)
        raise Parsed(self)

    def refuse(self, status=0, message=None):
        raise AssertionError(f"{' '.join(sys.argv)}: {message}")

    read = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(argparse.ArgumentParser, "exit", refuse)  # where every error ends
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def run(words, check=True):
        monkeypatch.setattr(sys, "argv", words)
        with monkeypatch.context() as patch:
            if not check:  # only to see the parser: no arguments are given
                patch.setattr(argparse.ArgumentParser, "parse_args", lambda self, *_: stop(self))
            with pytest.raises(Parsed) as parsed:
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        return parsed.value.args[0]

    def stop(parser):
        raise Parsed(parser)

    return run


def check_command(words, parse):
    """Refuse a command that would not start."""
    for word in words:
        if word.startswith(("configs/", "tools/", "tests/", "docs/", "mmsn/")):
            assert (ROOT / word).exists(), f"{word} does not exist"
    if words[:2] == ["bash", "tools/with_env.sh"]:
        words = words[2:]
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        args = get_args_parser().parse_known_args(words[1:])[0]
        first = "-m" if args.module else "python"
        words = [first, args.training_script, *args.training_script_args]
    match words:
        case ["python", "-m", "pytest", *_] | ["bash", ".ci/run"] | ["pre-commit", "install"]:
            pass
        case ["mmsn"] | ["awk", *_] | ["python", "-m", "venv", _] | [".", _]:
            pass
        case ["sphinx-build", *rest]:
            assert rest[:2] == ["-W", "docs"]  # as in tests/test_site.py
        case ["python", script, *_] if script.startswith("tools/"):
            parse(words[1:])
        case ["mim", "run", "mmsn", tool, *rest] | ["mmsn" | "-m", tool, *rest]:
            if words[0] == "-m":  # torchrun -m mmsn_cli TOOL
                tool, rest = rest[0], rest[1:]
            known = mmsn_cli.commands(ROOT / "tools")
            name = tool.replace("_", "-") if words[0] == "mim" else tool
            assert name in known, f"there is no tool {tool}"
            parse([str(known[name].relative_to(ROOT)), *rest])
        case ["pip", "install", *requirements]:
            for requirement in requirements:
                check_extras(requirement)
        case ["mim", "train", "mmsn", config, *_]:
            assert config in LEAVES
        case _:
            raise AssertionError(f"no rule for the command {' '.join(words)}: add one")


def check_extras(requirement):
    section = re.search(
        r"^\[project\.optional-dependencies\]$(.*?)^\[",
        (ROOT / "pyproject.toml").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    known = re.findall(r"^(\w+) = \[", section[1], re.MULTILINE)
    if wanted := re.search(r"\[(.*)\]", requirement):
        assert set(wanted[1].split(",")) <= set(known), requirement


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_command_parses(page, parse):
    for block in fenced(page, "bash"):
        for words in commands(block):
            check_command(words, parse)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_flag_in_the_text_is_one_of_the_tool(page, parse):
    """``tools/x.py ... --flag`` in a sentence, where not all arguments need to be there."""
    for span in spans(page):
        words = re.sub(r"^(?:mim run )?mmsn (\w+)", r"tools/\1.py", span).split()
        words = words[1:] if words[:1] == ["python"] else words
        if words and re.fullmatch(r"tools/(?!_)\w+\.py", words[0]):
            flags = {word for word in words if word.startswith("--")}
            assert (ROOT / words[0]).exists(), span
            known = parse(words[:1], check=False)._option_string_actions
            assert flags <= set(known), span


def test_only_wrong_commands_are_refused(parse):
    for line in (
        "mmsn test CONFIG CHECKPOINT --stitch 0  # which one",
        "torchrun --nproc_per_node 8 -m mmsn_cli train CONFIG --launcher pytorch",
        "A=1 bash tools/with_env.sh python tools/train.py \\\n    CONFIG --amp",
    ):
        (words,) = commands(line)
        check_command(words, parse)
    for line in (
        "python tools/test.py CONFIG",
        "python tools/test.py CONFIG CHECKPOINT --stitches 0",
        "python tools/train.py configs/setr/no_such_config.py",
        "python tools/no_such_tool.py",
        "torchrun --nproc_per_node 8 tools/train.py --launcher ssh CONFIG",
        "mim train mmsn no_such_config.py",
        "mim run mmsn report --no-such-flag",
        "mmsn test CONFIG",
        "mmsn no_such_tool",
        "torchrun --nproc_per_node 8 -m mmsn_cli train CONFIG --launcher ssh",
        'pip install ".[no_such_extra]"',
        "rm work_dirs",
    ):
        (words,) = commands(line)
        with pytest.raises(AssertionError):
            check_command(words, parse)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_snippet_compiles_and_imports_what_exists(page):
    for block in fenced(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                assert all(map(is_importable, names)), block
            elif isinstance(node, ast.Call):
                kinds = [k.value.value for k in node.keywords if k.arg == "type"]
                assert all(is_registered(kind) for kind in kinds), block


def is_registered(kind):
    """Does an mmseg config find this type?"""
    registries = [getattr(root, name) for name in dir(root) if name.isupper()]
    scoped = kind if "." in kind else f"mmseg.{kind}"
    return any(r.get(scoped) is not None for r in registries if hasattr(r, "get"))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_cited_test_exists(page):
    for span in spans(page):
        if found := re.fullmatch(r"(?:tests/)?(?:\w+/)*(test_\w+\.py)(?:::(\w+))?", span):
            files = list((ROOT / "tests").rglob(found[1]))
            assert files, f"{span}: no such file"
            if found[2]:
                texts = [file.read_text() for file in files]
                assert any(f"def {found[2]}(" in text for text in texts), f"{span}: no such test"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_cited_file_exists(page):
    tops = ("configs/", "docs/", "mmsn/", "tests/", "tools/", ".ci/", ".github/")
    here = {path.name for top in tops for path in (ROOT / top).rglob("*.*")}
    for span in spans(page):
        name = span.split("::")[0].split()[0].rstrip("/")
        if span.startswith(tops):
            assert glob.glob(re.sub(r"\{.*?\}", "*", name), root_dir=ROOT), f"{span}: no such file"
        elif re.fullmatch(r"[\w/.-]+\.(py|json)", name) and name not in WRITTEN:
            assert Path(name.removeprefix("...")).name in here or "..." in name, span


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_name_of_mmsn_in_the_text_exists(page):
    for span in spans(page):
        if re.fullmatch(r"mmsn(\.\w+)+", span) and not span.endswith(".py"):
            assert is_registered(span) or is_importable(span), span


def is_importable(dotted):
    top, *names = dotted.split(".")
    value = importlib.import_module(top)
    for i, name in enumerate(names):
        if not hasattr(value, name):
            try:
                value = importlib.import_module(".".join([top, *names[: i + 1]]))
            except ModuleNotFoundError:
                return False
        else:
            value = getattr(value, name)
    return True


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_relative_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file) if file else page
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
