"""The ``.mim`` folder that ``mim`` runs from; everything else about packaging is in pyproject.toml.

Left out on purpose: metadata and dependencies, which need no code.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ("configs", "tools", "model-index.yml")


def copy_mim_content(target: Path) -> None:
    for name in MIM_CONTENT:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.sh", ".*")
            shutil.copytree(source, target / name, ignore=ignored, dirs_exist_ok=True)
        elif source.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


class Build(build):
    """Modifications: builds in a temporary folder.

    ``build/lib`` left in the tree would be packed into later wheels with whatever is stale in it,
    and an editable install would show ``mim`` every config twice.
    """

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix="mmsn-build-")
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


class BuildPy(build_py):
    """Modifications: adds ``mmsn/.mim``, where openmim looks. Editable installs need none."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            copy_mim_content(Path(self.build_lib) / "mmsn" / ".mim")


class BDistWheel(bdist_wheel):
    """Modifications: adds ``.mim`` to the ``.dist-info`` folder, where onedl-mim looks.

    onedl-mim takes the first path of RECORD for the package folder. pip sorts RECORD, and
    ``mmsn-X.dist-info/`` sorts before ``mmsn/`` because ``-`` sorts before ``/``.
    """

    def write_wheelfile(self, wheelfile_base: str, *args: str, **kwargs: str) -> None:
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        if "editable_wheel" not in self.distribution.commands:
            copy_mim_content(Path(wheelfile_base) / ".mim")


setup(cmdclass={"build": Build, "build_py": BuildPy, "bdist_wheel": BDistWheel})
