"""Every refusal of the package is a ``UserError``, and crosses processes as one."""

import ast
import pickle

import pytest

from mmsn.deploy.budget import BudgetError
from mmsn.errors import MissingFile, UserError
from tests.conftest import ROOT

# What a caller of pydantic sees as one UserError; and bytes that torch asks about, never a user.
WRONG = {"ValueError", "TypeError", "KeyError", "LookupError", "FileNotFoundError"}
OWN_VALUE_ERRORS = {"evaluation/report.py", "evaluation/latency.py", "compat.py"}
OWN_VALUE_ERRORS |= {"datasets/mat5.py"}  # reasons, to which the converter adds file and remedy


@pytest.mark.parametrize("kind", [UserError, MissingFile, BudgetError])
def test_it_is_a_value_error_that_can_be_pickled(kind):
    """Ranks and workers of a loader send errors to one another."""
    error = kind("width 3 is not allowed: give 4")
    assert isinstance(error, UserError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "width 3 is not allowed: give 4"


def test_it_is_one_line_whatever_values_it_names():
    assert str(UserError("key 'a\nb\r\nc' is unknown")) == "key 'a b c' is unknown"


def test_a_missing_file_is_a_file_not_found_error():
    """So that callers who know only Python's own errors can catch it."""
    with pytest.raises(FileNotFoundError, match=r"^config 'no\.py' does not exist$"):
        raise MissingFile("config 'no.py' does not exist")


def raised(path):
    """Names of the classes that a module raises."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield getattr(node.exc.func, "id", "")


def test_wrong_values_are_user_errors_everywhere():
    found = {
        path.relative_to(ROOT / "mmsn").as_posix()
        for path in (ROOT / "mmsn").rglob("*.py")
        if WRONG & set(raised(path))
    }
    assert found == OWN_VALUE_ERRORS
