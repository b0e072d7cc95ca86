"""The ``.mim`` folders that ``mim`` runs from; everything else of packaging is in pyproject.toml.

Left out on purpose: metadata and dependencies, which need no code.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
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
    """Modifications: adds ``.mim`` in both places where ``mim`` looks. Editable installs need none.

    openmim looks into ``mmsn/``. onedl-mim takes the first path of RECORD for the package folder.
    pip sorts RECORD, and the script ``mmsn`` is in there as ``../../../bin/mmsn``, so the folder
    for onedl-mim has a name that sorts before a dot.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for package in ("mmsn", "+mmsn"):
                copy_mim_content(Path(self.build_lib) / package / ".mim")


setup(cmdclass={"build": Build, "build_py": BuildPy})
