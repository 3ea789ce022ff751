"""A task by its name, in a process that has imported its source before."""

import importlib
import sys
import types

import pytest

from jaxsched.search.tasks._named import found_task


@pytest.mark.parametrize("bytecode", [True, False])
def test_a_first_look_at_a_named_task_tells_what_was_imported(tmp_path, monkeypatch, bytecode):
    """Of helpers in other folders too, but never of the running script."""
    (tmp_path / "other").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "other")
    own, far, late = (f"{name}_{bytecode}" for name in ("own", "far", "late"))
    helper, script = tmp_path / "other" / f"{far}.py", tmp_path / "script.py"
    (tmp_path / f"{own}.py").write_text(f"from {far} import X\ndef make(): return X\n")
    refused = pytest.raises(ValueError, match=f"{far}.py has changed since this process imported")

    def reload():
        for name in (far, own):
            importlib.reload(sys.modules[name])

    helper.write_text("X = 1\n")
    script.write_text("")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    worker = types.ModuleType("__worker__")  # as mpi4py calls the script in its workers
    worker.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__worker__", worker)
    monkeypatch.setattr(sys, "dont_write_bytecode", not bytecode)
    importlib.invalidate_caches()
    importlib.import_module(far)
    helper.write_text("X = 22\n")
    for _ in range(2):
        with refused:
            found_task(f"{own}:make")
    reload()
    assert found_task(f"{own}:make") == 22
    helper.write_text("X = 333\n")
    with refused:
        found_task(f"{own}:make")
    importlib.reload(sys.modules[far])  # the other module still has its number
    with pytest.raises(ValueError, match=f"{own}.py was not loaded again with .*{far}.py"):
        found_task(f"{own}:make")
    reload()
    helper.touch()
    script.write_text("# edited meanwhile")
    assert found_task(f"{own}:make") == 333
    (tmp_path / f"{late}.py").write_text("def make(): return 4\n")
    importlib.invalidate_caches()
    importlib.import_module(late)
    if bytecode:
        assert found_task(f"{late}:make") == 4
    else:  # nothing tells what was imported
        with pytest.raises(ValueError, match=f"{late}.py has changed since this process imported"):
            found_task(f"{late}:make")
