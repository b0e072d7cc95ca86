"""From supernet to product: one stitch out of many, in the form that runs where it is needed."""

from mmsn.deploy.comparison import Comparison, compare
from mmsn.deploy.exporting import export, load_stitch, open_exported, quantise
from mmsn.deploy.extraction import extract, load, save
from mmsn.deploy.plain_anchor import plain

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
