"""What is submitted to an executor, and what of it gets lost."""

import pickle
import signal
import tempfile
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import pytest
from executor_tasks import TRIALS, bowl
from sweep_tasks import same

from jaxsched import search
from jaxsched.search.engine._engine import Engine
from jaxsched.search.multihost import _backend
from jaxsched.search.multihost._pool import Lost, Pool


def sweep(task=None, trials=TRIALS, **arguments):
    return search.sweep(task or bowl(), trials, **{"steps": 60, "evaluate_every": 20, **arguments})


class Losing:
    """An executor whose first answers are losses."""

    def __init__(self, losses):
        self.losses, self.calls = list(losses), 0

    def submit(self, function, *arguments):
        self.calls += 1
        answer = Future()
        if self.losses and (loss := self.losses.pop(0)):
            answer.set_exception(loss)
        else:
            answer.set_result(function(*arguments))
        return answer


class Gone(Exception):
    """What an executor says of a dead worker, in words of its own."""


def echo(value, token):
    return value


def results(executor, calls=(("a",), ("b",)), stopped=lambda: False):
    return dict(Pool(executor).run(echo, list(calls), stopped))


def test_a_lost_call_is_submitted_again_three_times():
    assert results(Losing([Gone(), None, Gone(), Gone()])) == {0: "a", 1: "b"}
    found = results(executor := Losing([Gone(), None, Gone(), Gone(), Gone("node 7 is down")]))
    assert executor.calls == 5
    assert found[1] == "b"
    assert isinstance(found[0], Lost)
    assert str(found[0]) == str(pickle.loads(pickle.dumps(found[0]))) == "Gone: node 7 is down"


def test_a_unit_that_is_lost_for_good_is_named():
    executor = Losing([None, *[Gone("out of memory")] * 4])
    with pytest.raises(
        RuntimeError, match=r"'wsd-10'.* lost 4 times, Gone: out of memory"
    ) as raised:
        sweep(executor=executor, units=1)
    assert isinstance(raised.value.__cause__.__cause__, Gone)


def test_a_broken_pool_is_made_again_if_it_is_known_how():
    broken = BrokenExecutor("a child died")
    with pytest.raises(
        RuntimeError, match=r"a worker died, and .* \(a child died\).*`executor=lambda"
    ):
        results(Broken([broken]))
    pools = [Losing([None, broken]), Broken([broken]), Losing([])]
    assert results(lambda: pools.pop(0)) == {0: "a", 1: "b"}
    with pytest.raises(RuntimeError, match="4 executors broke before a unit had ended"):
        results(lambda: Broken([broken]))


class Broken(Losing):
    def submit(self, function, *arguments):
        raise self.losses[0]


def test_an_answer_that_tells_of_pickling_is_not_a_loss():
    error = pickle.PicklingError("Can't pickle <lambda>")
    with pytest.raises(TypeError, match=r"must be able to send the task .* PicklingError: Can't"):
        results(Losing([error]))


def test_an_executor_that_is_shut_down():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(RuntimeError, match=r"sweep\(executor=...\) must be .* takes work, got: "):
        results(pool)


def test_a_stop_cancels_what_has_not_begun():
    stops = iter([False, False, True])
    assert results(Losing([None, Gone()]), stopped=lambda: next(stops, True)) == {0: "a"}


class Terminated(Engine):
    def run(self, until):
        super().run(until)
        signal.raise_signal(self.number)


class Died(BaseException):
    pass


class Timed(Exception):
    pass


# An exception would not end a worker: a pool that has terminated its workers would wait for it. A
# job of submitit raises one before its time limit: it must not be taken for an error of the unit.
@pytest.mark.parametrize(
    ("name", "raised", "ends"),
    [("SIGTERM", Died, Died), ("SIGUSR2", Died, Died), ("SIGUSR2", Timed, Timed)],
)
def test_a_worker_that_is_terminated_saves_and_ends_as_by_the_signal(
    monkeypatch, tmp_path, name, raised, ends
):
    def die(number, frame):
        assert list(tmp_path.glob("*/records-*"))
        raise raised

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    die.__module__ = "submitit.core.job_environment"
    monkeypatch.setattr(_backend, "Engine", Terminated)
    monkeypatch.setattr(Terminated, "number", getattr(signal, name), raising=False)
    before = signal.signal(Terminated.number, die)
    try:
        with pytest.raises(ends):
            sweep(executor=Losing([]))
    finally:
        signal.signal(Terminated.number, before)


def test_a_job_that_is_asked_to_end_before_it_trains_is_lost(monkeypatch):
    run, asked = Engine.run, iter([Timed])
    monkeypatch.setattr(Timed, "__module__", "submitit.core.utils")

    def ends(self, until):
        for error in asked:
            raise error
        return run(self, until)

    monkeypatch.setattr(Engine, "run", ends)
    with ThreadPoolExecutor(1) as pool:
        assert sweep(executor=pool).info.units


class Confused(Losing):
    def submit(self, function, *arguments):
        return super().submit(lambda: 7)


def test_an_executor_that_returns_something_else_is_refused():
    with pytest.raises(TypeError, match=r"answers with what the call returned, got 7"):
        sweep(executor=Confused([]))


class Twice(ThreadPoolExecutor):
    """Makes each call two times, at once."""

    def submit(self, function, *arguments):
        super().submit(function, *arguments)
        return super().submit(function, *arguments)


def test_an_executor_that_makes_each_call_twice():
    with Twice(2) as pool:
        assert same(sweep(executor=pool, units=1, checkpoint_every=0), sweep())
