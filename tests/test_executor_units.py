"""Where the work of workers is cut into units, and what is repeated then."""

from executor_tasks import bowl

import jaxsched as js
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._plan import make_plan
from jaxsched.search.engine._request import Request
from jaxsched.search.engine._units import cut
from jaxsched.search.trials._given import as_trials


def units(trials, most, workers=None, least=1, **arguments):
    request = Request(**arguments)
    ledger = Ledger(make_plan(bowl(), as_trials(trials), request))
    ledger.reread(None)
    found, repeated = cut(ledger, None, lambda updates: most, least, workers)
    assert sorted(t for u in found for t in u.trials) == sorted(
        [*range(len(ledger.plan.trials))] * len(ledger.plan.runs)
    )
    return [(u.updates, u.trials) for u in found], repeated


CONSTANTS = [js.Constant(0.01 * i) for i in range(1, 9)]
FORKS = [js.wsd(0.1, 100, warmup=0, decay=d) for d in (10, 11, 60, 61)]  # 39 and 89 in common


def test_units_are_cut_where_the_shared_prefix_is_shortest():
    assert units(CONSTANTS, 4, steps=10) == ([(20, (i, i + 1)) for i in (0, 2, 4, 6)], 0)
    assert units(CONSTANTS, 3, steps=10)[1] == 0
    assert units(CONSTANTS, 0, steps=10, seeds=2) == ([(80, tuple(range(8)))] * 2, 0)
    both, repeated = units(FORKS, 2)
    assert [set(trials) for _, trials in both] == [{2, 3}, {0, 1}]
    assert repeated == 41


def test_more_units_than_workers_are_no_use_if_they_repeat_too_much():
    trunk = [js.wsd(0.1, 1000, warmup=0, decay=d) for d in range(10, 26)]
    found, repeated = units(trunk, 16, workers=2)
    assert (len(found), repeated) == (1, 0)
    assert len(units(CONSTANTS, 8, workers=2, steps=10)[0]) == 8


def test_a_unit_fills_the_lanes_that_train_side_by_side():
    found, _ = units(CONSTANTS, 8, least=3, steps=10)
    assert [len(trials) for _, trials in found] == [4, 4]


def test_runs_that_are_held_back_are_open_once_however_often_a_store_is_read():
    ledger = Ledger(make_plan(bowl(), as_trials(CONSTANTS), Request(steps=10)))
    for _ in range(2):
        ledger.reread(0)
        assert len({run.key for run in ledger.unfinished()}) == len(ledger.unfinished()) == 8
    ledger.give_up(range(8), 5)  # all of them have diverged
    assert [*cut(ledger, None, lambda updates: 4, workers=2)] == [[], 0]
