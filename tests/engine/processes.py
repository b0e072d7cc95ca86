"""Processes for tests that need one of their own.

They are forked from a server that has imported the stack once. A new interpreter would import it
again, 5 s each; a fork of the test's process would carry its threads and autograd's state along.
"""

import multiprocessing
import os
import tempfile

import torch
import torch.multiprocessing as mp

multiprocessing.set_forkserver_preload(["mmsn", "mmsn.deploy", "mmsn.engine", "mmseg.apis"])
CONTEXT = multiprocessing.get_context("forkserver")


def start(ranks, target, *args):
    """Run ``target(rank, ranks, *args)`` in so many processes, to their ends.

    They work in a folder that is removed: ranks exchange results through files in theirs.
    """
    method = CONTEXT.get_start_method()
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(
            _work_in, args=(folder, target, ranks, *args), nprocs=ranks, start_method=method
        )


def _work_in(rank, folder, target, ranks, *args):
    os.chdir(folder)
    target(rank, ranks, *args)


def join(rank, ranks, port):
    """Make this process one of several, before the Runner, which would look for GPUs."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
