"""Threads over one device: as many as there are idle cores, and the bits of one."""

import itertools
import os
import signal
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from sweep_tasks import Plain, interrupted, same, shared, supervised

import jaxsched as js
from jaxsched import _machine, search
from jaxsched.search import SuccessiveHalving
from jaxsched.search.engine import _engine, _program, _threads
from jaxsched.search.engine._products import for_one_thread
from jaxsched.search.engine._threads import Threads

CPU = jax.local_devices()[:1]
TASK = shared(supervised)
RATES = [js.Constant(rate) for rate in (0.05, 0.1, 0.2, 1e30)]
DECAYS = [js.wsd(0.1, 60, warmup=5, decay=d) for d in (10, 20, 30)]
PLATEAUS = [js.Plateau(js.Constant(0.3), patience=p, rtol=0.3) for p in (0, 1, 2)]


def sweep(trials=(*DECAYS, *RATES), task=TASK, **arguments):
    return search.sweep(task, trials, **{"steps": 60, "devices": CPU, **arguments})


def wait_until(met):
    end = time.monotonic() + 10
    while not met() and time.monotonic() < end:
        time.sleep(0.005)


@pytest.fixture
def five(monkeypatch, tmp_path):
    """Five cores."""
    monkeypatch.setattr(_machine, "_OWN", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)), raising=False)


@pytest.fixture
def idle(monkeypatch, five):
    """All of them idle, beside products that XLA might give to several; Python's lock is free."""
    monkeypatch.setattr(_program, "for_one_thread", lambda *_: False)
    monkeypatch.setattr(Threads, "_most_unlocked", lambda _: 5)
    monkeypatch.setattr(_threads, "_SECONDS", 0.0)
    clock = types.SimpleNamespace(perf_counter=time.perf_counter, process_time=lambda: 0.0)
    monkeypatch.setattr(_threads, "time", clock)


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize(
    "arguments",
    [
        {"evaluate_every": 25},
        {"folds": 2, "seeds": 2},
        {"seeds": 2, "stopping": SuccessiveHalving(first=10, eta=2)},
        {"trials": PLATEAUS, "seeds": 2, "evaluate_every": 10},
        {"task": shared(Plain), "width": 3, "seeds": 2},
    ],
    ids=["plain", "folds", "halving", "controllers", "width"],
)
def test_any_number_of_threads_gives_the_bits_of_one(threads, arguments):
    result = sweep(**arguments, devices=CPU * threads)
    assert same(result, sweep(**arguments))
    assert (result.info["devices"], result.info["threads"]) == (1, threads)


def test_what_fails_to_compile_ahead_is_compiled_when_it_is_called(monkeypatch):
    def failing(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: of no account")

    expected = sweep(task=Plain())
    monkeypatch.setattr(jax.stages.Lowered, "compile", failing)
    again = sweep(task=Plain())
    assert same(again, expected)
    assert again.info["traces"] == expected.info["traces"] != {}


@pytest.mark.parametrize("after", [5, 12])
def test_what_several_threads_left_one_finishes_and_the_other_way_round(tmp_path, after):
    def run(directory, **arguments):
        return sweep(seeds=2, checkpoint=directory, checkpoint_every=0.0, **arguments)

    for first, second in ((2, 1), (1, 5)):
        directory = tmp_path / str(first)
        interrupted(directory, after, run, devices=CPU * first)
        assert same(run(directory, devices=CPU * second), sweep(seeds=2))


def test_by_default_there_is_a_thread_for_each_core_and_run(idle):
    many, few = sweep(devices=None, seeds=3), sweep(RATES[:2], devices=None)
    assert (many.info["threads"], few.info["threads"]) == (5, 2)
    assert many.info["devices"] == 1 < len(jax.local_devices())
    assert same(many, sweep(seeds=3)) and same(few, sweep(RATES[:2]))
    final = search.final_score(TASK, many)
    assert final.result.info["threads"] == 3
    best = many.train["loss"][many.best().index]
    assert final.result.train["loss"][0].tobytes() == best.tobytes()


def test_small_products_do_not_wait_for_idle_cores(idle, monkeypatch):
    monkeypatch.setattr(_program, "for_one_thread", lambda *_: True)
    monkeypatch.setattr(_threads, "_FULL", 0.0)  # none is idle
    assert sweep(devices=None).info["threads"] == 5


@pytest.mark.parametrize(
    ("function", "lanes", "expected"),
    [
        (lambda x: x @ x, 2, True),
        (lambda x: x @ x, 3, False),
        (lambda x: jax.lax.scan(lambda y, _: (y @ x, 0), x, None, 2)[0], 3, False),
        (lambda x: jax.lax.conv(x[None, None], x[None, None], (1, 1), "VALID"), 1, False),
        (jax.numpy.sin, 9, True),
        (jax.numpy.linalg.cholesky, 2, True),
        (jax.numpy.linalg.cholesky, 3, False),
        (lambda x: jax.numpy.linalg.svd(x, compute_uv=False), 3, False),
        (lambda x: jax.numpy.linalg.solve(x, x), 3, False),
        (lambda x: jax.numpy.linalg.eigh(x)[0], 3, False),
    ],
    ids=[
        *("product", "lanes", "scan", "convolution", "none"),
        *("one", "more", "svd", "solve", "eigh"),
    ],
)
def test_products_that_one_thread_does(function, lanes, expected):
    traced = jax.make_jaxpr(function)(np.ones((64, 64), np.float32))
    assert for_one_thread(traced, lanes) is expected


def test_a_range_test_has_a_thread_for_each_core_and_seed(idle, monkeypatch):
    used, collect = set(), _engine.Engine._collect

    def seen(self, number, *arguments):
        used.add(number)
        runs = collect(self, number, *arguments)
        begun = len(self._backend.threads.numbers)
        wait_until(lambda: len(used) >= begun)  # on a busy machine threads begin late
        return runs

    monkeypatch.setattr(_engine.Engine, "_collect", seen)
    many = js.range_test(TASK, seeds=3, steps=40)
    assert used == {0, 1, 2}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    one = js.range_test(TASK, seeds=3, steps=40)
    assert many.losses.tobytes() == one.losses.tobytes()
    assert many.peak == one.peak


@pytest.mark.parametrize(
    ("used", "expected"),
    [([0.2], 8), ([1.0], 8), ([7.3], 1), ([7.1, 7.3], 2), ([3.0, 4.0, 7.3], 4), ([7.1] * 3, 4)],
)
def test_threads_are_added_while_cores_are_idle(monkeypatch, used, expected):
    """``used``: of 8 cores, in the first look, the second, and so on; in the end all."""
    spent = itertools.chain(used, itertools.repeat(8))
    clock = types.SimpleNamespace(
        perf_counter=itertools.count().__next__,
        process_time=itertools.accumulate(spent, initial=0).__next__,
    )
    monkeypatch.setattr(_threads, "time", clock)
    monkeypatch.setattr(_threads, "_SECONDS", 0.001)
    monkeypatch.setattr(Threads, "_most_unlocked", lambda _: 8)
    threads, ran = Threads(8, cores=8), []

    def work(number):
        ran.append(number)
        for _ in range(9):
            threads.trained(number)

    for _ in range(2):  # what was found holds from then on
        threads.run(work, lambda: None)
    assert len(threads.numbers) == expected
    assert sorted(ran) == sorted([*range(expected)] * 2)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(("unlocked", "expected"), [(0, 1), (4, 1), (6, 2), (8.1, 5), (10, 8)])
def test_threads_that_would_wait_for_pythons_lock_are_not_added(
    monkeypatch, small, unlocked, expected
):
    """``unlocked``: so many of ten seconds of the first thread are those of compiled programs."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(now=0.0, process_time=lambda: 0.0)
    clock.perf_counter = lambda: clock.now + next(ticks) / 1e9
    monkeypatch.setattr(_threads, "time", clock)
    monkeypatch.setattr(_threads, "_SECONDS", 0.001)
    threads, ran = Threads(8, cores=8, small=small), []

    def work(number):
        ran.append(number)
        if number == 0:
            threads.trains(0)
            with threads.unlocked(0):
                clock.now += unlocked
            clock.now += 10 - unlocked
            threads.trained(0)
            clock.now += 0.002  # the look at the cores, where it is needed
            threads.trained(0)

    threads.run(work, lambda: None)
    assert len(ran) == len(threads.numbers) == expected


@pytest.mark.parametrize("cores", [None, 2])
def test_a_thread_that_cannot_be_started_is_told_as_that(monkeypatch, cores):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    threads, stopped = Threads(2, cores, small=True), []
    monkeypatch.setattr(threads, "_most_unlocked", lambda: 2)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threads.run(threads.trained, lambda: stopped.append(True))
    assert stopped


@pytest.mark.parametrize("main", ["trains", "waits"])
def test_ctrl_c_ends_all_threads(monkeypatch, main):
    """Also while the main thread has nothing to do beside one long run."""
    before, collected = threading.active_count(), []
    collect, take = _engine.Engine._collect, _engine.Engine._take
    other = js.cosine_decay(0.2, 3 if main == "waits" else 19_000)

    def interrupting(self, number, *arguments):
        collected.append(number)
        if number == 1 and collected.count(1) == 4:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)
        return collect(self, number, *arguments)

    def late(self, number):
        time.sleep(0.0 if number else 0.02)  # the other thread has the long run
        return take(self, number)

    monkeypatch.setattr(_engine.Engine, "_collect", interrupting)
    monkeypatch.setattr(_engine.Engine, "_take", late)
    with pytest.warns(UserWarning, match="Ctrl-C after .* the result is partial"):
        sweep([js.cosine_decay(0.1, 20_000), other], shared(Plain), steps=None, devices=CPU * 2)
    assert threading.active_count() == before
    assert len(collected) < 20


def test_an_interrupt_of_the_wait_for_other_threads_ends_them():
    stopped = threading.Event()

    def work(number):
        if number:  # the caller's has ended
            time.sleep(0.02)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert stopped.wait(10)

    with pytest.raises(KeyboardInterrupt):
        Threads(2).run(work, stopped.set)


def test_a_lack_of_memory_ends_threads_before_it_halves_the_width(monkeypatch):
    expected, collect, at_once = sweep(seeds=2), _engine.Engine._collect, set()

    def lacking(self, number, *arguments):
        at_once.add(number)
        time.sleep(0.002)
        if len(self._backend.threads.numbers) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return collect(self, number, *arguments)

    monkeypatch.setattr(_engine.Engine, "_collect", lacking)
    with pytest.warns(RuntimeWarning, match="goes on with . threads? on this device") as warned:
        result = sweep(seeds=2, devices=CPU * 5)
    assert same(result, expected)
    assert (result.info["threads"], len(warned)) == (2, 3)
    assert len(at_once) > 2


def test_an_error_of_one_thread_ends_the_others():
    class Broken(Exception):
        pass

    task = supervised()
    draw = task.batches

    def batches(seed, start, length):
        if seed == 2 and length > 2:
            raise Broken
        return draw(seed, start, length)

    task.batches = batches
    before = threading.active_count()
    with pytest.raises(Broken):
        sweep(task=task, seeds=3, devices=CPU * 2)
    assert threading.active_count() == before


@pytest.mark.parametrize("how", ["threads", "store", "units"])
def test_batches_are_read_by_one_thread_at_a_time(tmp_path, how):
    task, inside, readers = supervised(), [], set()
    draw = task.batches

    def batches(*arguments):
        assert not inside
        inside.append(1)
        readers.add(threading.get_ident())
        time.sleep(0.01)
        inside.clear()
        return draw(*arguments)

    task.batches = batches
    with ThreadPoolExecutor(3) as pool:
        told = {"devices": CPU * 3}
        if how == "store":  # which reads them as well
            told |= {"checkpoint": tmp_path, "checkpoint_every": 0.0}
        elif how == "units":
            told = {"devices": None, "executor": pool, "units": 4}
        sweep(task=task, seeds=8, **told)
    assert len(readers) > 1


def test_settings_of_the_caller_hold_in_all_threads():
    with jax.default_matmul_precision("bfloat16"), jax.threefry_partitionable(False):
        many = sweep(seeds=2, devices=CPU * 3)
        one = sweep(seeds=2)
    assert same(many, one)
    assert np.isfinite(many.final()[0]).all()
