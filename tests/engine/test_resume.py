"""Which checkpoint a run continues from: the newest whole one."""

import pytest
import torch

from mmsn.engine.resume import is_whole, latest_checkpoint
from mmsn.errors import UserError
from tests.engine.reading import damage


@pytest.fixture
def folder(tmp_path):
    """A folder with the checkpoints of iterations 4 and 6, as far as their names go."""
    for step in (4, 6):
        torch.save({"state_dict": {"weight": torch.arange(999.0)}}, tmp_path / f"iter_{step}.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_6.pth"))
    return tmp_path


@pytest.fixture
def lines(monkeypatch):
    """What is logged while a checkpoint is looked for."""
    logged = []
    monkeypatch.setattr("mmsn.engine.resume.print_log", lambda line, **kwargs: logged.append(line))
    return logged


@pytest.mark.parametrize("how", ["truncated", "zeros", "one bit", "empty", "missing"])
def test_a_damaged_newest_checkpoint_gives_way_to_an_older_one(folder, lines, how):
    damage(folder / "iter_6.pth", how)
    assert not is_whole(folder / "iter_6.pth")
    assert is_whole(folder / "iter_4.pth") is True
    assert latest_checkpoint(folder) == str(folder / "iter_4.pth")
    assert len(lines) == 1
    assert f"{folder}/iter_6.pth' is damaged" in lines[0]
    assert f"{folder}/iter_4.pth', the newest whole one" in lines[0]


@pytest.mark.parametrize(
    "text", [None, "", "\0\0\0", "/nowhere/iter_6.pth", "iter_99.pth", ".", "9" * 999]
)
def test_a_wrong_last_checkpoint_does_not_hide_the_newest_file(folder, text):
    pointer = folder / "last_checkpoint"
    pointer.unlink()
    if text is not None:
        pointer.write_text(text)
    assert latest_checkpoint(folder) == str(folder / "iter_6.pth")


def test_leftovers_of_a_longer_run_are_not_newer(folder):
    """A new run was started in the folder of a longer one."""
    (folder / "iter_600.pth").write_bytes((folder / "iter_4.pth").read_bytes())
    assert latest_checkpoint(folder) == str(folder / "iter_6.pth")
    damage(folder / "iter_6.pth", "truncated")
    assert latest_checkpoint(folder) == str(folder / "iter_4.pth")


def test_a_moved_folder_resumes_from_itself(folder, tmp_path_factory):
    moved = folder.rename(tmp_path_factory.mktemp("moved") / "run")
    assert latest_checkpoint(moved) == str(moved / "iter_6.pth")


def test_nothing_whole_is_one_line_with_the_names(folder):
    for name in ("iter_4.pth", "iter_6.pth"):
        damage(folder / name, "truncated")
    with pytest.raises(UserError, match=r"nothing to resume from.*iter_6\.pth.*iter_4") as caught:
        latest_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "last_checkpoint").touch()
    with pytest.raises(UserError, match="last_checkpoint' is empty"):
        latest_checkpoint(tmp_path)
