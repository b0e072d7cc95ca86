"""Chunks on disk: whole, of the right evaluation, or evaluated again."""

import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsn.engine.chunks import ChunkStore, FolderLock
from mmsn.errors import UserError

RESULTS = {
    stitch: [[(torch.arange(5.0) + stitch, torch.ones(5))], ["a.png", "b.png"]] for stitch in (0, 4)
}


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def saved(folder, chunks=2, **options):
    store = ChunkStore(folder, dict(data="images"), **options)
    for number in range(chunks):
        store.save(number, RESULTS)
    return store


def test_what_was_saved_comes_back(tmp_path):
    store = saved(tmp_path)
    assert equal(store.load([0, 4]), [RESULTS, RESULTS])
    assert store.load([0]) == []
    assert ChunkStore(tmp_path, dict(data="others")).load([0, 4]) == []
    assert ChunkStore(tmp_path, dict(data="images"), rank=1).load([0, 4]) == []
    assert [p.name for p in store.folder.iterdir() if p.suffix != ".pt"] == []


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    at=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(["flip", "cut", "insert", "zero"]),
    bit=st.integers(0, 7),
)
def test_a_damaged_chunk_never_loads(tmp_path, at, kind, bit):
    store = ChunkStore(tmp_path, dict(data="images"))
    path = store.folder / "rank0-chunk00001.pt"
    if not store.folder.exists():
        saved(tmp_path)
        path.rename(tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    place = int(at * len(content))
    if kind == "flip":
        content[place] ^= 1 << bit
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content.insert(place, bit)
    else:
        end = min(len(content), place + 4096)
        if not any(content[place:end]):
            return
        content[place:end] = bytes(end - place)
    path.write_bytes(content)
    assert equal(store.load([0, 4]), [RESULTS])


def test_a_chunk_under_another_name_never_loads(tmp_path):
    store = saved(tmp_path)
    first, second = sorted(store.folder.iterdir())
    second.write_bytes(first.read_bytes())
    assert equal(store.load([0, 4]), [RESULTS])
    for other in (ChunkStore(tmp_path, {}), ChunkStore(tmp_path, dict(data="images"), rank=1)):
        other.folder.mkdir(exist_ok=True)
        other._path(0).write_bytes(first.read_bytes())
        assert other.load([0, 4]) == []


def test_a_file_that_executes_is_no_chunk(tmp_path):
    store = saved(tmp_path, chunks=0)
    store.folder.mkdir()
    torch.save({0: Path("x"), 4: print}, store._path(0))
    assert store.load([0, 4]) == []


def test_two_writers_of_one_chunk_leave_a_whole_one(tmp_path):
    one, other = saved(tmp_path), saved(tmp_path)
    assert equal(one.load([0, 4]), other.load([0, 4]))
    assert len(list(one.folder.iterdir())) == 2


def test_older_evaluations_are_named_and_removed_in_the_end(tmp_path):
    old, new = saved(tmp_path / "partial"), ChunkStore(tmp_path / "partial", dict(data="changed"))
    new.save(0, RESULTS)
    assert new.others() == [old.folder]
    new.remove()
    assert list(tmp_path.iterdir()) == []


def hold(folder, held):
    with FolderLock(folder):
        held.set()
        time.sleep(60)


def test_a_folder_belongs_to_one_process_until_it_ends(tmp_path):
    pytest.importorskip("fcntl")
    context = multiprocessing.get_context("fork")  # spares the import of torch
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    while not held.wait(0.1):
        assert process.is_alive()
    with pytest.raises(UserError, match=f"in use by another benchmark .process {process.pid}"):
        FolderLock(tmp_path).__enter__()
    with FolderLock(tmp_path / "another"):
        pass
    process.kill()
    process.join()
    for _ in range(2):
        with (
            FolderLock(tmp_path),
            pytest.raises(UserError, match="choose another folder with --work-dir"),
        ):
            FolderLock(tmp_path).__enter__()
