"""From supernet to product: one stitch out of many, in the form that runs where it is needed."""

from mmsn.deploy.compare import Comparison, compare
from mmsn.deploy.export import export, load_stitch, open_exported, quantise
from mmsn.deploy.extract import extract, load, save
from mmsn.deploy.plain import plain

__all__ = [
    "Comparison",
    "compare",
    "export",
    "extract",
    "load",
    "load_stitch",
    "open_exported",
    "plain",
    "quantise",
    "save",
]
