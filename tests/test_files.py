"""Files appear whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest
import torch

from mmsn.engine.chunks import ChunkStore
from mmsn.engine.hooks.checkpoint_hook import WholeFileBackend
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from mmsn.files import whole_file, write_bytes, write_text
from tests.evaluation.reports import report, result


def test_a_file_is_replaced_only_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_text(path, "öld")

    def fail():
        with whole_file(path) as part:
            part.write_text("half")
            assert part.suffix == ".json"
            assert part.parent == path.parent
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text(encoding="utf-8") == "öld"
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text(encoding="utf-8") == "öld"
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as first, whole_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # whose block ended last
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_others_may_read_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """What reaches the disk, in its order: contents, names and folders."""
    done, replace = [], Path.replace

    def fsync(handle):
        found = os.fstat(handle)
        done.append("folder" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes")

    def rename(self, target):
        done.append(f"name {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    return done


@pytest.mark.skipif(os.name == "nt", reason="folders are synced on POSIX")
def test_content_reaches_the_disk_before_its_name_and_the_name_before_the_end(tmp_path, steps):
    WholeFileBackend().put(b"four", str(tmp_path / "a"))  # as checkpoints are saved
    write_text(tmp_path / "b", "five!")  # as last_checkpoint is
    with whole_file(tmp_path / "c") as part:
        part.write_bytes(b"six...")
    assert steps == [
        *("4 bytes", "name a", "folder"),
        *("5 bytes", "name b", "folder"),
        *("6 bytes", "name c", "folder"),
    ]


def test_files_that_can_be_made_again_need_not_wait_for_the_disk(tmp_path, steps):
    write_bytes(tmp_path / "a", b"four", sync=False)
    assert (tmp_path / "a").read_bytes() == b"four"
    assert steps == ["name a"]


@pytest.fixture
def full_disk(monkeypatch):
    """Every write ends halfway."""
    original = Path.write_bytes

    def fail(self, data):
        original(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(Path, "write_bytes", fail)


def test_a_full_disk_is_one_line_and_keeps_the_old_content(tmp_path, full_disk):
    path = tmp_path / "a.json"
    write_text(path, "old")
    full_disk()
    with pytest.raises(UserError, match=r"a\.json' could not be written \(No space left on devi"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_reports_and_chunks_survive_a_full_disk(tmp_path, full_disk):
    store = ChunkStore(tmp_path, dict(data="images"))
    results = {0: [[(torch.ones(3), torch.zeros(3))]]}
    store.save(0, results)
    kept = report(result(0, 5, 1.0))
    kept.save(tmp_path / "pareto.json")
    full_disk()
    for save in (
        lambda: store.save(1, results),
        lambda: store.save(0, results),
        lambda: kept.save(tmp_path / "pareto.json"),
    ):
        with pytest.raises(UserError, match=r"could not be written .*make room and repeat"):
            save()
    (found,) = store.load([0])
    assert torch.equal(found[0][0][0][0], torch.ones(3))
    assert ParetoReport.load(tmp_path / "pareto.json") == kept
    assert not list(tmp_path.rglob(".*"))
