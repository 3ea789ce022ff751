"""The threads that train: on a CPU as many as the cores have room for.

Compiled programs of different threads run side by side, since JAX releases Python's lock. XLA gives
several cores to a large matrix product by itself; beside it more threads would only cost memory.
What is left of a run, such as its schedule's values, needs Python's lock: threads that mostly wait
for it are slower than one. So one thread begins, and others follow while cores are seen to be idle
and the lock to be free.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from jaxsched.search.engine._settings import in_force

# The first look at the cores takes so long, and each further one twice as long: a short look costs
# a short sweep little, and a long one is not deceived by other processes.
_SECONDS = 0.03
# Cores that are used less than this are idle. XLA's own threads are far from efficient below it: a
# CNN that uses 1.6 of two cores is trained 1.6 times as fast by two threads as by one.
_FULL = 0.9


class Threads:
    """Threads that do the same work, each on its own device or all on one.

    Args:
        most: their number, at least 1.
        cores: of this process, if all threads but the first wait until some of them are idle.
        small: no product is large: cores without a thread are idle.

    Attributes:
        busy: to be set when the first thread has trained; compiling would say nothing of training.
    """

    def __init__(self, most: int, cores: int | None = None, small: bool = False):
        self.busy = threading.Event()
        self._numbers, self._cores, self._small = list(range(most)), cores or most, small
        self._count, self._seconds = most if cores is None else 1, _SECONDS
        self._began, self._unlocked = math.inf, 0.0  # of the first thread, in one call of `run`

    @property
    def numbers(self) -> list[int]:
        """The numbers of the threads that train."""
        return self._numbers[: self._count]

    def run(self, work: Callable[[int], None], stop: Callable[[], None]) -> None:
        """Calls ``work`` with the number of each thread; returns, or raises, after all have ended.

        The first thread is the caller's: an interrupt reaches its work, not a wait for the others.

        Args:
            work: trains until nothing is left.
            stop: asks the work of all threads to end, after an error in one.
        """
        context, ended = in_force(), threading.Event()
        errors: list[BaseException] = []
        others: list[threading.Thread] = []
        self.busy.clear()
        self._began, self._unlocked = math.inf, 0.0

        def guarded(number: int) -> None:
            try:
                with context():
                    work(number)
            except BaseException as error:
                errors.append(error)
                stop()

        def start(target: Callable[..., None], *arguments: object) -> None:
            others.append(threading.Thread(target=target, args=arguments))
            others[-1].start()

        def watch() -> None:
            self.busy.wait()
            while more := self._look(ended):
                for number in more:
                    start(guarded, number)

        def join() -> None:
            ended.set()
            self.busy.set()  # whether it has been or not: no look any more
            for thread in others:  # those that ``watch`` adds are behind it
                thread.join()

        try:
            for number in self.numbers[1:]:
                start(guarded, number)
            if self._count < len(self._numbers):
                start(watch)
            guarded(self.numbers[0])
            join()
        except BaseException as error:  # an interrupt outside of the work: no other may go on
            errors.append(error)
            stop()
            join()
        if errors:
            raise errors[0]

    def trains(self, number: int) -> None:
        """A thread begins to train some runs; the first one is timed from here."""
        if number == self._numbers[0]:
            self._began = min(self._began, time.perf_counter())

    @contextlib.contextmanager
    def unlocked(self, number: int) -> Iterator[None]:
        """Around calls of compiled programs and waits for them, which release Python's lock.

        Around a task's data as well: one thread reads them while another one trains.
        """
        before = time.perf_counter()
        yield
        if number == self._numbers[0]:
            self._unlocked += time.perf_counter() - before

    def dismiss(self, number: int) -> None:
        """A thread ends for good, and none is added: its work returns, and is not called again."""
        self._numbers = [other for other in self.numbers if other != number]
        self._count = len(self._numbers)

    def _look(self, ended: threading.Event) -> list[int]:
        """The threads to add, once cores are idle; none if all train already, or at the end."""
        seconds = 0.0 if self._small else self._seconds
        while self._count < len(self._numbers):
            wall, spent, before = time.perf_counter(), time.process_time(), self._count
            if ended.wait(seconds):
                break
            self._seconds = seconds = 2 * seconds or self._seconds
            most = min(len(self._numbers), self._most_unlocked())
            if not self._small:
                used = (time.process_time() - spent) / (time.perf_counter() - wall)  # cores
                # As many as fill the cores, if each uses as much as the present ones on average.
                room = max(int(before * self._cores / max(used, 1e-3)), before + 1)
                most = min(most, room if used < _FULL * self._cores else before)
            if most > before:
                self._count = most
                return self._numbers[before:most]
        return []

    def _most_unlocked(self) -> int:
        """So many threads hold Python's lock all the time, each as long as the first one alone."""
        share = self._unlocked / (time.perf_counter() - self._began)
        return int(1 / max(1 - share, 1e-3))
