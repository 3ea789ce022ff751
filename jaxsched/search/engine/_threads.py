"""The threads that train: on a CPU as many as the cores have room for.

Compiled programs of different threads run side by side, since JAX releases Python's lock. XLA gives
several cores to a large matrix product by itself; beside it more threads would only cost memory.
The rest of a run, such as its schedule's values, needs Python's lock: threads that mostly wait for
it are slower than one. So one thread begins, and adds others while it sees that cores are idle and
the lock is free.
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
    """

    def __init__(self, most: int, cores: int | None = None, small: bool = False):
        self._numbers, self._cores, self._small = list(range(most)), cores or most, small
        self._count, self._seconds = most if cores is None else 1, _SECONDS
        # The clock of the first thread, in one call of `run`.
        self._began, self._unlocked = math.inf, 0.0
        self._looked: tuple[float, float] | None = None  # wall and CPU time
        self._start: Callable[[int], None]

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
        context = in_force()
        errors: list[BaseException] = []
        others: list[threading.Thread] = []
        self._began, self._unlocked, self._looked = math.inf, 0.0, None

        def guarded(number: int) -> None:
            try:
                with context():
                    work(number)
            except BaseException as error:
                errors.append(error)
                stop()

        def start(number: int) -> None:
            others.append(threading.Thread(target=guarded, args=(number,)))
            others[-1].start()

        def join() -> None:
            for thread in others:
                if thread.ident is not None:  # else it was not started, and the error says why
                    thread.join()

        self._start = start
        try:
            for number in self.numbers[1:]:
                start(number)
            guarded(self.numbers[0])
            join()
        except BaseException as error:  # an interrupt outside of the work: no other may go on
            errors.append(error)
            stop()
            join()
        finally:
            del self._start  # a circle, which would keep the states until Python's collector comes
        if errors:
            raise errors[0]

    def trains(self, number: int) -> None:
        """A thread begins to train some runs; the first one is timed from here."""
        if number == self._numbers[0]:
            self._began = min(self._began, time.perf_counter())

    def trained(self, number: int) -> None:
        """A thread has trained some updates; the first one looks whether to add others.

        It does so itself: a thread that watches it would cost a short sweep more than it gains.
        """
        if number != self._numbers[0] or self._count == len(self._numbers):
            return
        now, spent, last = time.perf_counter(), time.process_time(), self._looked
        if last is not None and now - last[0] < self._seconds:
            return
        self._looked = (now, spent)
        if last is not None:
            self._seconds *= 2
        if self._small:  # there is nothing to see: each product has one thread
            self._add(0.0)
        elif last is not None:  # earlier time says nothing of training: it may have compiled
            used = (spent - last[1]) / (now - last[0])
            if used < _FULL * self._cores:
                self._add(used)

    def _add(self, used: float) -> None:
        """Starts as many threads as fill the cores, if each uses as much as the present ones do."""
        count = self._count
        room = max(int(count * self._cores / max(used, 1e-3)), count + 1)
        self._count = max(count, min(len(self._numbers), room, self._most_unlocked()))
        for more in self._numbers[count : self._count]:
            self._start(more)

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

    def _most_unlocked(self) -> int:
        """So many threads hold Python's lock all the time, each as long as the first one alone.

        With 0.8 of the time in compiled programs that is 5. With 0.5 it is 2, and a third one would
        only wait for the lock.
        """
        share = self._unlocked / (time.perf_counter() - self._began)
        return int(1 / max(1 - share, 1e-3))
