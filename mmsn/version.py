"""The version of mmsn: the one place it is written, read by setuptools without importing mmsn."""

__version__ = "0.1.0"
