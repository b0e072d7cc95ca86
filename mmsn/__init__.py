"""Stitched ViT backbones (SN-Netv2) for MMSegmentation: one network, many compute budgets.

``custom_imports = dict(imports=['mmsn'])`` in a config registers everything under ``mmsn.*``.
"""

from mmsn.compat import prepare

prepare()  # before anything imports torchvision, mmcv or mmseg

from mmsn import datasets, deploy, engine, evaluation, models  # noqa: E402
from mmsn.version import __version__  # noqa: E402

__all__ = ["__version__", "datasets", "deploy", "engine", "evaluation", "models"]
