"""Processes that tests start, forked from one that has imported JAX, us and the tests' tasks.

The import takes longer than most of what they do. The process that is forked has made no device and
has one thread (conftest.py sees to NumPy's), so that a fork is as good as a process from nothing.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import jax
from helpers import unflushed

multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["children", "executor_tasks", "mesh_tasks", "sweep_tasks", "orbax.checkpoint"]
)


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="jaxsched-children-")


class Child(ForkServerProcess):
    """``python -W error`` with a program, the text of one or its file, and what it prints."""

    def __init__(self, program, *arguments, daemon=True, **environment):
        super().__init__(daemon=daemon)
        self.program, self.arguments = program, [str(argument) for argument in arguments]
        self.environment = environment
        self.texts = [tempfile.mkstemp(dir=_folder().name)[1] for _ in range(2)]
        self.start()

    def run(self):
        for path, stream in zip(self.texts, (1, 2), strict=True):
            os.dup2(os.open(path, os.O_WRONLY), stream)
        is_file = isinstance(self.program, Path)
        name = str(self.program) if is_file else "<program of a test>"
        sys.argv = [name, *self.arguments]
        os.environ.update(self.environment)
        os.fsync = unflushed
        warnings.simplefilter("error")
        text = self.program.read_text() if is_file else self.program
        try:
            exec(compile(text, name, "exec"), {"__name__": "__main__", "__file__": name})
        except KeyboardInterrupt:  # as the interpreter ends then
            traceback.print_exc()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            jax.distributed.shutdown()  # JAX's own at exit, which multiprocessing omits

    def told(self):
        """What it has printed so far, and its errors."""
        return tuple(Path(path).read_text() for path in self.texts)

    def wait_for(self, words):
        """Until it has printed them."""
        while words not in self.told()[0]:
            assert self.is_alive(), self.told()
            time.sleep(0.01)

    def ended(self, timeout=300):
        """Its exit code, what it printed and its errors."""
        self.join(timeout)
        return self.exitcode, *self.told()
