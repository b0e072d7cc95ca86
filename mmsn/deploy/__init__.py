"""From supernet to product: one stitch out of many, in the form that runs where it is needed."""

from mmsn.deploy.extract import extract, load, save
from mmsn.deploy.plain import plain

__all__ = ["extract", "load", "plain", "save"]
