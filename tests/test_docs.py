"""README and docs are true: their commands parse, their snippets run, what they cite exists.

Commands are not run, only given to the parsers of the tools that they name. What a page shows of
the output, and figures that were measured, are not checked here.
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

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import root
from mmseg.registry import MODELS as MMSEG_MODELS

from mmsn.checks import Findings, examine
from mmsn.models import build
from mmsn.models.complexity import trace_head
from tests.conftest import ROOT
from tests.deploy.tiny import tiny_config, tiny_model, tiny_report
from tests.tiny import tiny_anchor

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
            assert (ROOT / f"tools/{tool}.py").exists(), f"there is no tool {tool}"
            parse([f"tools/{tool}.py", *rest])
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


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the snippets may use without making it, in a folder that holds the files they read."""

    def make(**backbone):
        monkeypatch.chdir(tmp_path)
        model = tiny_model(**backbone)
        tiny_config(**backbone).dump("c.py")
        state = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta))
        torch.save(state, "k.pth")
        tiny_report(model, {i: float(i) for i in model.backbone.space.ids}).save("pareto.json")
        image = np.zeros((40, 48, 3), np.uint8)
        return dict(config="c.py", checkpoint="k.pth", report="pareto.json", image=image)

    return make


def test_the_snippets_of_the_readme_run(names):
    # the depths of DeiT-3 S and L, so that there are 134 stitches
    _, predict, through_mmseg = fenced(ROOT / "README.md", "python")
    variables = names(anchors=[tiny_anchor(16, 12), tiny_anchor(24, 24)], out_indices=(11, 23))
    exec(predict, variables)
    assert variables["labels"].shape == (40, 48)
    exec(through_mmseg, variables)
    model, menu = variables["model"], variables["menu"]
    assert len(model.backbone.space) == 134
    costs = menu.macs.values()
    chosen = menu.macs[model.backbone.stitch.id]
    assert chosen == max(macs for macs in costs if macs <= 0.3 * max(costs))
    assert variables["result"].pred_sem_seg.data.shape[-2:] == (40, 48)


def test_the_readme_s_config_has_no_mistakes(tmp_path):
    (tmp_path / "c.py").write_text(fenced(ROOT / "README.md", "python")[0])
    config = Config.fromfile(tmp_path / "c.py")
    assert examine(config, training=True) == Findings()
    for anchor in config.model.backbone.anchors:
        assert anchor.pop("pretrained")  # nothing is downloaded here
    built = build(config, "meta")
    assert len(built.backbone.space) == 134
    assert trace_head(built, (512, 512))[0] > 1e9  # neck and heads take what the backbone gives


def test_the_snippets_of_runtime_run(names, capsys):
    variables = names()
    snippets = fenced(ROOT / "docs/runtime.md", "python")
    assert len(snippets) == 5
    for snippet in snippets:
        exec(snippet, variables)
    out = capsys.readouterr().out
    assert "largest that fits 60%" in out
    assert "largest that fits" in out.splitlines()[-1]
    assert len(variables["results"]) == 3
    assert variables["controller"].stitch in (0, 1, 4)


def test_the_depth_head_of_the_page_regresses_meters():
    (snippet,) = fenced(ROOT / "docs/depth-models.md", "python")
    exec(snippet, {})
    options = dict(in_channels=[8, 8], in_index=[0, 1], channels=4, norm_cfg=dict(type="BN"))
    head = MMSEG_MODELS.build(dict(type="mmsn.SegformerDepthHead", **options))
    meters = head.eval()([torch.randn(1, 8, 4, 4) * 100] * 2)
    assert meters.shape == (1, 1, 4, 4)
    assert 1e-3 <= meters.min() <= meters.max() <= 10


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
