"""The drop-ins have the curves of the libraries whose names they have, by tables of theirs."""

from __future__ import annotations

import importlib
import inspect

import golden
import pytest

CASES = {
    (library, name): [case for case in golden.read(library) if case["name"] == name]
    for library in golden.LIBRARIES
    for name in sorted({case["name"] for case in golden.read(library)})
}


@pytest.mark.parametrize(("library", "name"), CASES)
def test_a_drop_in_has_the_values_of_its_peer_on_the_host_and_in_a_program(library, name):
    on_host, in_program, _ = golden.exception(library, name)
    for number, case in enumerate(CASES[library, name]):
        assert golden.on_the_host(library, case) <= on_host, case["arguments"]
        traced = golden.in_a_program(library, case, compiled=number == 0)
        assert traced <= in_program, case["arguments"]


@pytest.mark.parametrize("library", golden.LIBRARIES)
def test_every_drop_in_has_a_table_and_an_example(library):
    module = importlib.import_module(f"jaxsched.compat.{library}")
    public = {
        name: value
        for name, value in inspect.getmembers(module, callable)
        if hasattr(value, "__wrapped__") and not name.startswith("_")
    }
    assert all(">>>" in value.__doc__ for value in public.values())
    called = {value.__name__ for value in public.values()}
    assert called == {name for where, name in CASES if where == library}
