"""What a wheel and an sdist carry, and that both kinds of ``mim`` find configs and tools in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = {}
exec((ROOT / "mmsn" / "version.py").read_text(encoding="utf-8"), VERSION)
CONFIGS = [
    path.relative_to(ROOT)
    for path in (ROOT / "configs").rglob("*.py")
    if "__pycache__" not in path.parts
]
CARRIED = [
    Path("tools/train.py"),
    Path("tools/test.py"),
    Path("tools/_run_args.py"),
    Path("model-index.yml"),
    *CONFIGS,
]


def run(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources in which a wheel and an sdist were built."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("mmsn", "mmsn_cli", "configs", "tools"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    files = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "model-index.yml")
    for name in files:
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "setup.py", "--quiet", "sdist", "bdist_wheel", cwd=tree)
    return tree


@pytest.fixture(scope="module")
def site(tree: Path) -> Path:
    """The wheel, installed by pip into a folder of its own."""
    (wheel,) = (tree / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--target", str(tree / "site"), str(wheel), cwd=tree)
    return tree / "site"


def test_building_leaves_no_build_folder(tree: Path) -> None:
    assert not (tree / "build").exists()


def test_the_sdist_is_complete(tree: Path) -> None:
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    assert names >= {Path("mmsn/compat.py"), Path("mmsn/py.typed"), Path("LICENSE"), *CARRIED}


def test_openmim_finds_the_package(site: Path) -> None:
    # openmim takes site-packages/NAME
    for path in CARRIED:
        assert (site / "mmsn" / ".mim" / path).is_file()


def test_onedl_mim_finds_the_package(site: Path) -> None:
    # onedl-mim takes the first path component of RECORD
    (dist,) = metadata.distributions(name="mmsn", path=[str(site)])
    assert dist.files
    package = site / dist.files[0].parts[0]
    for path in CARRIED:
        assert (package / ".mim" / path).is_file()
        # mim searches below the package by base name and wants one answer
        if path in CONFIGS and "_base_" not in path.parts:
            assert len(list(package.rglob(path.name))) == 1


@pytest.mark.skipif(importlib.util.find_spec("mim") is None, reason="mim is not installed")
def test_mim_itself_agrees(site: Path, tmp_path: Path) -> None:
    code = "from mim.utils import get_installed_path; print(get_installed_path('mmsn'))"
    out = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    assert (Path(out.splitlines()[-1]) / ".mim" / "tools" / "train.py").is_file()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mim") is None, reason="mim is not installed")
def test_mim_runs_the_tools(site: Path, tmp_path: Path) -> None:
    mim = (sys.executable, "-m", "mim", "run", "mmsn")
    published = str(ROOT / "docs" / "results" / "published_ade20k_deit3-s-l.json")
    out = run(*mim, "report", published, "--out", "report", cwd=tmp_path, PYTHONPATH=str(site))
    assert str(site) in out
    assert (tmp_path / "report" / "pareto.html").is_file()


def test_the_script_is_installed_and_finds_its_commands(site: Path, tmp_path: Path) -> None:
    out = run(str(site / "bin" / "mmsn"), cwd=tmp_path, PYTHONPATH=str(site))
    assert "\n  train " in out
    assert run(str(site / "bin" / "mmsn"), "--version", cwd=tmp_path, PYTHONPATH=str(site)) == (
        f"{VERSION['__version__']}\n"
    )


def test_the_openmmlab_packages_are_only_extras(site: Path) -> None:
    (dist,) = metadata.distributions(name="mmsn", path=[str(site)])
    assert dist.version == VERSION["__version__"]
    plain = [line for line in dist.requires or [] if "extra ==" not in line]
    assert plain
    assert not [line for line in plain if line.startswith(("mm", "onedl", "openmim"))]
    extras = {
        "onedl",
        "openmmlab",
        "test",
        "lint",
        "dev",
        "demo",
        "export",
        "openvino",
        "completion",
        "docs",
    }
    assert extras == set(dist.metadata.get_all("Provides-Extra"))


def test_config_names_are_unique() -> None:
    leaves = [path.name for path in CONFIGS if "_base_" not in path.parts]
    assert len(leaves) == len(set(leaves))
