"""Calls submitted to a user's executor: waited for, and submitted again if they are lost.

An executor is any object with ``submit(fn, *args)``, whose answers have ``done()``, ``exception()``
and ``result()``: the shape of ``concurrent.futures``. Nothing else of it is used, but ``cancel()``
where there is one. A submitted function returns its own errors as values. So any exception of an
answer means that the call was lost, however its executor reports the death of a worker.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import time
import types
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jaxsched._text import describe, shorten
from jaxsched.search.engine._request import check_executor

LOSSES = 3  # so often a lost call is submitted again
_PAUSES = (0.005, 0.25)  # seconds between two looks at the answers: the first, and the most


def unpacked(value: object) -> Any:
    """The value that was ``packed``."""
    return pickle.loads(value) if isinstance(value, bytes) else value


def name_of(value: object) -> bytes:
    """Unique bytes for a value. A value that the executor has to pickle gets new ones each time.

    A packed value is its own name: a task may hold much data, which is pickled once.
    """
    try:
        return value if isinstance(value, bytes) else _pickled(value)
    except Exception:  # of many kinds
        return uuid.uuid4().bytes


class Lost(Exception):
    """A call was lost more than ``LOSSES`` times; its cause is the last exception."""

    @classmethod
    def after(cls, last: BaseException) -> Lost:
        """Not the constructor, which pickle calls with the text."""
        reason = " ".join(str(last).split())[-400:]  # the end of a traceback
        lost = cls(f"{type(last).__name__}: {reason}")
        lost.__cause__ = last
        return lost


class Pool:
    """An executor; or a function that makes one, called again if the executor breaks."""

    def __init__(self, given: Any):
        self._make = None if hasattr(given, "submit") else given
        self._executor = check_executor(given if self._make is None else given())
        self._breaks = 0  # since the last result

    @property
    def workers(self) -> int | None:
        """Their number, where the executor tells."""
        number = getattr(self._executor, "_max_workers", None)
        return number if isinstance(number, int) else None

    def packed(self, value: object) -> object:
        """The value as bytes, if all its parts can be imported; else the value itself.

        The bytes are read by the submitted function, which reports an error: Dask's workers hang if
        a module is missing. Other values are left to the executor's own pickling. This raises if
        such a value cannot be sent to the workers of a pool of the standard library.
        """
        with contextlib.suppress(Exception):  # of many kinds
            return _pickled(value, script=False)
        if isinstance(self._executor, ProcessPoolExecutor):
            try:
                _pickled(value)
            except Exception as error:
                raise _cannot_send(error) from error
        return value

    def close(self) -> None:
        """Ends the executor if it was made here."""
        if self._make is not None and hasattr(self._executor, "shutdown"):
            self._executor.shutdown(wait=False)

    def run(
        self,
        function: Callable[..., Any],
        calls: list[tuple[object, ...]],
        stopped: Callable[[], bool],
    ) -> Iterator[tuple[int, Any]]:
        """Yields (number of a call, its result or ``Lost``) in the order of their ends.

        Args:
            function: importable; it gets the arguments of a call, and a text that differs each
                time: some executors take equal calls for one.
            calls: the arguments of each.
            stopped: whether to end: queued calls are then cancelled, and no call is submitted.
        """
        # A call is in ``todo``, then in ``waiting``, and goes back to ``todo`` if it is lost. It
        # may be lost with its worker: then it counts against the call, since its own work may be
        # the cause. Or the executor broke, and all waiting calls are lost with it: that counts
        # against none of them. Not all executors have callbacks, so the answers are looked at again
        # and again, less often the longer nothing ends.
        losses, pause, cancelled = Counter[int](), _PAUSES[0], False
        waiting: dict[int, Any] = {}
        todo = list(range(len(calls)))
        while todo or waiting:
            if stopped():
                todo = []
                if not cancelled:
                    cancelled = True
                    self._cancel([*waiting.values()])
            try:
                while todo:
                    arguments = (*calls[todo[0]], uuid.uuid4().hex[:12])
                    waiting[todo[0]] = self._submit(function, *arguments)
                    todo.pop(0)  # only now: where the submission breaks it is still to do
            except BrokenExecutor as broken:
                self._replace_executor(broken)
                todo, waiting = sorted({*todo, *waiting}), {}
                continue
            ended = [number for number, answer in waiting.items() if answer.done()]
            for number in ended:
                answer = waiting.pop(number)
                problem = _error_of_answer(answer)
                if problem is None:
                    self._breaks = 0
                    yield number, answer.result()
                elif stopped():
                    continue
                elif isinstance(problem, BrokenExecutor):
                    todo.append(number)  # all answers have this error: no call is at fault
                elif isinstance(problem, _UNSENT):
                    raise _cannot_send(problem) from problem
                elif losses[number] == LOSSES:
                    yield number, Lost.after(problem)
                else:
                    losses[number] += 1
                    todo.append(number)
            pause = _PAUSES[0] if ended else min(2 * pause, _PAUSES[1])
            if waiting and not ended:
                time.sleep(pause)

    def _cancel(self, answers: list[Any]) -> None:
        """Cancels the queued calls, where the executor can."""
        # Python 3.11's leaves its workers alive if it breaks with a cancelled call; it ends soon.
        if not isinstance(self._executor, ProcessPoolExecutor):
            for answer in answers:
                getattr(answer, "cancel", bool)()  # some have none, and run to their ends

    def _submit(self, function: Callable[..., Any], *arguments: object) -> Any:
        """The answer to a call; raises if the executor is closed or broken, or cannot send it."""
        try:
            answer = self._executor.submit(function, *arguments)
        except BrokenExecutor:
            raise
        except _UNSENT as error:
            raise _cannot_send(error) from error
        except RuntimeError as error:
            raise RuntimeError(
                f"sweep(executor=...) must be an executor that takes work, got: {error}. Is it "
                "shut down? Call sweep while it is open."
            ) from error
        if any(not callable(getattr(answer, name, None)) for name in _ANSWERS):
            raise TypeError(
                "sweep(executor=...) must have a `submit` whose answers have done(), exception() "
                f"and result(), as futures of `concurrent.futures` have, got {describe(answer)}."
            )
        return answer

    def _replace_executor(self, broken: BrokenExecutor) -> None:
        """Makes another executor in place of a broken one.

        Raises:
            RuntimeError: if there is no known way, or it did not help.
        """
        self._breaks += 1
        if self._make is None or self._breaks > LOSSES:
            broke = "the executor broke"
            if self._make is not None:
                broke = f"{self._breaks} executors broke before a unit had ended"
            raise RuntimeError(
                f"sweep(executor=...): a worker died, and {broke} ({shorten(str(broken), 200)}). "
                "Frequent causes: a kill for lack of memory; a script that calls sweep without "
                '`if __name__ == "__main__":`; functions of a notebook, which a new process cannot '
                "import. With checkpoint=... the same call goes on from what was saved. Give "
                "`executor=lambda: ProcessPoolExecutor(...)`, with your arguments, to have it made "
                "again."
            ) from broken
        self.close()
        self._executor = check_executor(self._make())


_ANSWERS = ("done", "exception", "result")
# A submitted function raises none of these: they mean that a value could not be sent.
_UNSENT = (pickle.PicklingError, AttributeError, TypeError, ImportError)


class _Pickler(pickle.Pickler):
    """Refuses values that pickle would write here, but a new process could not read."""

    script: bool  # whether the main script's definitions can be read: a spawned process has it

    def reducer_override(self, value: Any) -> Any:
        """Leaves all to pickle, except values that it would write as a name of a notebook."""
        by_name = isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__"
        path = Path(getattr(sys.modules["__main__"], "__file__", ""))
        if by_name and not (self.script and path.is_file()):
            raise pickle.PicklingError(f"{value.__qualname__} is defined in a notebook")
        return NotImplemented


def _pickled(value: object, script: bool = True) -> bytes:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.script = script
    pickler.dump(value)
    return buffer.getvalue()


def _cannot_send(error: Exception) -> TypeError:
    return TypeError(
        "sweep(executor=...) must be able to send the task and the trials to its workers, got "
        f"{type(error).__name__}: {shorten(str(error), 300)}. Define their functions and classes "
        "in a module that the workers can import, without lambdas, or give the task as "
        '"package.module:factory".'
    )


def _error_of_answer(answer: Any) -> BaseException | None:
    try:
        return answer.exception()
    except (Exception, CancelledError) as raised:
        return raised
