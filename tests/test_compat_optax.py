"""Optax's own tests of its schedules pass with ours in the place of its functions."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import unittest

import optax
import optax.schedules._join
import optax.schedules._schedule
import pytest

from jaxsched.compat import optax as ours


@pytest.mark.parametrize("name", ["_schedule", "_join"])
def test_optax_tests_pass_with_the_drop_ins_in_the_place_of_its_schedules(
    name, in_numpy, monkeypatch
):
    tests = f"optax.schedules.{name}_test"
    if optax.__version__ != "0.2.8" or importlib.util.find_spec(tests) is None:
        pytest.skip("the drop-ins are those of Optax 0.2.8, which may come without its tests")
    # Its optimizers are not in question here, and their tests need another package.
    aliases = types.ModuleType("optax._src.alias_test")
    aliases._OPTIMIZERS_UNDER_TEST = ({"opt_name": "sgd", "opt_kwargs": {}},)
    monkeypatch.setitem(sys.modules, aliases.__name__, aliases)
    monkeypatch.setattr(optax._src, "alias_test", aliases, raising=False)
    for module in (optax.schedules._schedule, optax.schedules._join):
        for word in set(vars(module)) & set(vars(ours)):
            if hasattr(getattr(ours, word), "__wrapped__"):
                monkeypatch.setattr(module, word, getattr(ours, word))
    sys.modules.pop(tests, None)
    module = importlib.import_module(tests)
    sys.modules.pop(tests)
    suite = unittest.TestSuite(
        case
        for cases in unittest.defaultTestLoader.loadTestsFromModule(module)
        for case in cases
        if "ScheduleAsLearningRate" not in case.id()
    )
    found = unittest.TestResult()
    suite.run(found)
    assert found.testsRun > 0
    assert found.errors == found.failures == []
