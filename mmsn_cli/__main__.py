# PYTHON_ARGCOMPLETE_OK
"""``python -m mmsn_cli`` is ``mmsn``, for launchers that take a module."""

from mmsn_cli import main

main()
