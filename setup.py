"""Packaging of mmsn: metadata, dependencies and the ``.mim`` folders that ``mim`` runs from.

Written as setup.py because of the two small build commands below; tool settings are in
pyproject.toml. The OpenMMLab packages are extras, never plain requirements: two families of them
share the same import names, and pip cannot ask for "this one or that one". ``mmsn.compat`` checks
for them at import.
"""

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ("configs", "tools", "model-index.yml")


def version() -> str:
    text = (ROOT / "mmsn" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('mmsn/version.py must hold a line __version__ = "X.Y.Z"')
    return match.group(1)


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


README = ROOT / "README.md"

EXPORT = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]  # tools/export.py, 110 MB

EXTRAS = {
    # The maintained forks: wheels or pure Python, no compiler.
    "onedl": [
        "onedl-mmengine>=0.10.12,<1",
        "onedl-mmcv>=2.3.6,<3",
        "onedl-mmsegmentation>=1.4.2,<2",
        "onedl-mim>=0.5.1",
        "ftfy",  # mmseg imports its CLIP text encoder, which needs these two
        "regex",
    ],
    # The last releases of OpenMMLab. setuptools 82 has no pkg_resources, which mmengine and
    # openmim import.
    "openmmlab": [
        "mmengine==0.10.7",
        "mmcv-lite==2.1.0",
        "mmsegmentation==1.2.2",
        "onedl-mim>=0.5.1",  # openmim would downgrade setuptools, requests and urllib3
        "ftfy",
        "regex",
        "setuptools<82",
    ],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "hypothesis>=6",
        "scipy>=1.11",
        "fvcore>=0.1.5",
        "h5py>=3.10",
        "argcomplete>=3",
        "playwright>=1.40",  # drives a Chromium or Chrome that is installed; it brings none
        *EXPORT,
    ],
    "demo": ["gradio>=6"],
    "export": EXPORT,
    "completion": ["argcomplete>=3"],
    "dev": ["ruff>=0.8", "mypy>=1.13", "pre-commit>=4"],
}

setup(
    name="mmsn",
    version=version(),
    description="Stitched plain ViTs (SN-Netv2) as MMSegmentation backbones",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["mmsn", "mmsn.*", "mmsn_cli"]),
    package_data={"mmsn": ["py.typed", "**/*.json", "**/*.npz"]},
    install_requires=[
        "torch>=2.4",
        "timm>=1.0.21",  # builds on the meta device
        "numpy>=1.24",
        "safetensors>=0.4",
        "matplotlib>=3.7",
        "plotly>=5.20",
        "rich>=13",
        "pydantic>=2",
        "packaging>=21",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["mmsn = mmsn_cli:main"]},
    cmdclass={"build": Build, "build_py": BuildPy},
)
