"""Importing mmsn loads no library that only some commands use."""

import subprocess
import sys

import pytest

# Plots, pages, schemas and export: loaded when they are used.
LATER = ("matplotlib", "plotly", "jsonschema", "gradio", "onnx", "onnxruntime", "pandas")


@pytest.mark.slow
def test_importing_loads_nothing_for_plots_pages_schemas_or_export():
    code = f"import sys, mmsn; print('loaded', *sorted(set({LATER}) & set(sys.modules)))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded"
