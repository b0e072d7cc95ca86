"""Processes for tests that need one of their own.

They are forked from a server that has imported the stack once. A new interpreter would import it
again, 5 s each; a fork of the test's process would carry its threads and autograd's state along.
"""

import multiprocessing

multiprocessing.set_forkserver_preload(["mmsn", "mmsn.deploy", "mmsn.engine", "mmseg.apis"])
CONTEXT = multiprocessing.get_context("forkserver")
