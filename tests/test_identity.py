"""What counts as the same run, or sweep: for stores, shards and final scores."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import chex
import identity_tasks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from children import Child
from identity_tasks import DATA, Line
from sweep_tasks import Plain, apply, init, shared, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import _files
from jaxsched.search.engine import _settings
from jaxsched.search.store import _pieces, _rows
from jaxsched.search.tasks._reading import Batches
from jaxsched.search.tasks._traced import Fold

HERE = Path(__file__).parent
TRIALS = [js.linear_decay(0.1, 12), js.Constant(0.01)]
ONE = jax.local_devices()[:1]


def sweep(task, trials=TRIALS, steps=12, **arguments):
    return search.sweep(task, trials, steps=steps, **{"devices": ONE, **arguments})


def changed(at=1500):
    """One number in another last digit."""
    data = DATA.copy()
    data[at] = np.nextafter(data[at], np.float32(2))
    return data


# ------------------------------------------------------------------------------------------ stores


def others(words):
    return pytest.warns(UserWarning, match=rf"0 of \d+ runs found in .* differ in .*{words}")


@pytest.mark.parametrize("where", ["init", "step", "evaluate"])
def test_data_behind_a_jitted_function_are_part_of_a_run(tmp_path, where):
    first = sweep(Line(where=where), checkpoint=tmp_path)
    again = sweep(Line(DATA.copy(), where), checkpoint=tmp_path)
    assert again.info.stored == first.steps_trained
    with others(f"task's {where}: [0-9a-f]+ there, [0-9a-f]+ here"):
        assert sweep(Line(DATA + 1, where), checkpoint=tmp_path).info.stored == 0


@pytest.mark.parametrize("part", ["model", "metric"])
def test_so_are_those_of_a_supervised_task(tmp_path, part):
    def task(data):
        @jax.jit
        def moved(x):
            return x + jnp.asarray(data)[1234]

        loss = optax.softmax_cross_entropy_with_integer_labels
        if part == "metric":
            return supervised(metrics={"moved": lambda outputs, y: loss(moved(outputs), y)})
        return supervised(model=(init, lambda params, x: moved(apply(params, x))))

    sweep(task(DATA), checkpoint=tmp_path)
    assert sweep(task(DATA.copy()), checkpoint=tmp_path).info.stored
    with others("task's evaluate"):
        assert sweep(task(changed(1234)), checkpoint=tmp_path).info.stored == 0


@pytest.mark.parametrize(
    ("where", "at", "arguments", "words"),
    [
        ("batches", 1500, {"steps": 2000}, "task's batches from update 1500 on"),
        ("batches", 1999, {"steps": 2000}, "task's batches from update 1999 on"),
        ("batches", 0, {}, "task's batches from update 0 on"),
        ("evaluate", 7, {"folds": 2}, "task's evaluate"),
    ],
)
def test_so_are_the_batches_of_all_updates_and_the_folds(tmp_path, where, at, arguments, words):
    sweep(Line(where=where), TRIALS[1:], checkpoint=tmp_path, **arguments)
    data = DATA.copy()
    data[at] += 0.5
    with others(words):
        again = sweep(Line(data, where), TRIALS[1:], checkpoint=tmp_path, **arguments)
    assert again.info.stored == 0
    whole = sweep(Line(data, where), TRIALS[1:], **arguments)
    assert again.train["loss"].tobytes() == whole.train["loss"].tobytes()


def test_batches_of_its_own_are_not_the_numbers_of_the_updates(tmp_path):
    """In the traced step both are an int32 scalar."""

    class Drawn(Plain):
        def batches(self, seed, start, length):
            return np.arange(start, start + length, dtype=np.int32) * 7 % 5

    Drawn.__module__, Drawn.__qualname__ = Plain.__module__, Plain.__qualname__
    tasks = (Plain(), Drawn())
    alone = [sweep(task).train["loss"].tobytes() for task in tasks]
    for first in (0, 1):
        directory = tmp_path / str(first)
        sweep(tasks[first], checkpoint=directory)
        with others("task's batches"):
            found = sweep(tasks[1 - first], checkpoint=directory)
        assert found.train["loss"].tobytes() == alone[1 - first]


def test_batches_that_changed_later_leave_what_was_trained_before(tmp_path):
    """Other batches from update 6 on, and a state at 4: what follows it is trained again."""
    arguments = {"evaluate_every": 4, "stopping": search.MedianRule(4), "trials": TRIALS[1:]}
    sweep(Line(where="batches"), checkpoint=tmp_path, **arguments)
    task = Line(changed(6), "batches")
    with others("task's batches from update 6 on"):
        again = sweep(task, checkpoint=tmp_path, **arguments)
    assert again.info.stored == 4
    assert again.train["loss"].tobytes() == sweep(task, **arguments).train["loss"].tobytes()


def test_of_two_seeds_the_one_with_the_same_batches_is_kept(tmp_path):
    arguments = {"seeds": [0, 2], "checkpoint": tmp_path}
    first = sweep(Line(where="seeds"), **arguments)
    data = DATA.copy()
    data[2] += 0.5
    assert sweep(Line(data, "seeds"), **arguments).info.stored == first.steps_trained // 2


@pytest.mark.parametrize("size", [4, 1 << 12, 1 << 20])
def test_which_batches_are_looked_at_depends_on_their_size_only(size):
    """A longer run begins with the checksums of a shorter one, however often it is asked."""

    class Task:
        def batches(self, seed, start, length):
            read.extend(range(start, start + length))
            return np.arange(start, start + length)

    read = []
    shape = SimpleNamespace(batch=jax.ShapeDtypeStruct((), np.int32), batch_bytes=size)
    fold = Fold(Task(), None, shape, {}, "")
    long = _rows.Rows(fold, 0, 10**7)
    whole = long.sums(0, 10**6)
    assert len(read) == len(set(read)) == len(whole) // 8 < 2**20
    assert {0, 1, 15} < set(read)
    for step in (1, 15, 17, 999, 10**5 + 1):
        short = _rows.Rows(fold, 0, step)
        for cut in (step // 3, step // 2):
            short.digest(cut)
        assert short.digest(step) == long.digest(step)
        assert whole.startswith(short.sums(0, step))
    changed = bytearray(whole)
    changed[-1] ^= 1
    assert long.agreed(0, 10**6, bytes(changed))[0] == sorted(read[: len(whole) // 8])[-1]
    assert long.agreed(0, 10**6, whole) == (10**6, "")


@pytest.mark.parametrize("steps", [4, 5, 90, 2000, 10**6])
def test_of_more_batches_than_can_be_read_first_last_and_some_between_are(steps):
    rows = []

    class Task:
        def batches(self, seed, start, length):
            rows.extend(range(start, start + length))
            return np.zeros((length, 1), np.float32)

    Batches(Task(), jax.ShapeDtypeStruct((1,), np.float32)).digest_of_runs((0,), steps, rows=90)
    assert {0, steps - 1} <= set(rows) <= set(range(steps))
    assert len(rows) == len(set(rows)) == min(steps, 80 if steps > 90 else steps)


def test_a_setting_that_changes_numbers_is_part_of_it(tmp_path):
    sweep(Line(), checkpoint=tmp_path)
    named = others("jax_threefry_partitionable: True there, False here")
    with jax.threefry_partitionable(False), named:
        sweep(Line(), checkpoint=tmp_path)
    with jax.debug_nans(True):  # changes none
        sweep(Line(), checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("jax_enable_x64", lambda: jax.enable_x64(True)),
        ("jax_default_matmul_precision", lambda: jax.default_matmul_precision("float32")),
        ("jax_default_prng_impl", lambda: jax.default_prng_impl("rbg")),
        ("jax_numpy_dtype_promotion", lambda: jax.numpy_dtype_promotion("strict")),
    ],
)
def test_the_settings_of_a_context_are_seen(name, make):
    before = _settings.settings()
    with make():
        during = _settings.settings()
    assert [n for n in before if before[n] != during[n]] == [name]
    assert _settings.settings() == before


def test_flags_of_xla_count_but_not_how_many_devices_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_dump_to=/x")
    assert _settings.settings()["XLA_FLAGS"] == ""
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert _settings.settings()["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=true"
    (tmp_path / "flags").write_text("--xla_cpu_enable_fast_math=false")  # as XLA reads it
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    assert _settings.settings()["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"


def test_a_setting_that_few_change_is_told_where_it_is_changed_and_compiles_anew():
    task = Line()
    sweep(task)
    assert not _settings.settings().keys() & _settings._RARE.keys()
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert _settings.settings()["jax_disable_most_optimizations"] == "True"
        assert sweep(task).info.traces == {"init": 1, "segment": 1, "evaluate": 1}
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    assert sweep(task).info.traces == {}


def test_what_a_callback_reads_may_have_changed(tmp_path):
    class Asking(Plain):
        def evaluate(self, state):
            shape = jax.ShapeDtypeStruct((), jnp.float32)
            return {"loss": jax.pure_callback(lambda x: DATA[1] * x, shape, jnp.sum(state))}

    sweep(Asking(), [js.Constant(0.1)], steps=2, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="2 updates .* whose `evaluate` asks the host"):
        sweep(Asking(), [js.Constant(0.1)], steps=2, checkpoint=tmp_path)


def test_settings_of_a_context_are_in_force_on_all_devices():
    class Random(Line):
        def step(self, state, hyperparams, batch):
            bits = jax.random.bits(jax.random.key(jnp.int32(batch)), (2,)) % 16
            return state - hyperparams["learning_rate"] * bits.astype(jnp.float32), {"loss": 0.0}

    with jax.threefry_partitionable(False):
        one, two = (sweep(Random(), devices=jax.local_devices()[:n]).final() for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != sweep(Random()).final().tobytes()


# -------------------------------------------------------------------------- other processes, shards


def other_process(*arguments):
    code, out, errors = Child(HERE / "identity_tasks.py", *arguments).ended()
    assert code == 0, errors
    return out


def test_a_rule_without_a_text_and_functions_as_settings_go_on_in_another_process(tmp_path):
    trained, names = other_process("rule", tmp_path / "run", tmp_path / "r.npz").split(maxsplit=1)
    rule = identity_tasks.Rule(4)
    again = search.sweep(
        Line(), identity_tasks.trials(), stopping=rule, checkpoint=tmp_path / "run"
    )
    assert str([trial.name for trial in again.trials]) == names.strip()
    assert again.info.stored == again.steps_trained == int(trained)
    assert len({trial.name for trial in again.trials}) == 8
    assert "0x" not in names
    assert len({path.name.split("-")[1] for path in (tmp_path / "run").iterdir()}) == 1


def test_shards_of_functions_as_settings_are_merged_from_two_processes(tmp_path):
    other_process(0, tmp_path / "run", tmp_path / "0.npz")
    mine = search.sweep(Line(), identity_tasks.trials(), shard=(1, 2))
    merged = search.merge([tmp_path / "0.npz", mine])
    whole = search.sweep(Line(), identity_tasks.trials())
    assert merged.final().tobytes() == whole.final().tobytes()
    assert [t.name for t in merged.trials] == [t.name for t in whole.trials]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": Line(DATA + 1)}, r"array \.data: float32\[\d+\] .*task's evaluate"),
        ({"task": Line(DATA + 1, "batches")}, r"array \.data: .*task's batches"),
        ({"task": Line(where="step")}, "task's step"),
        ({"limit": 5.0}, "limit: inf in part 0, 5.0 in part 1"),
        ({"evaluate_every": 6}, "evaluate_every: None in part 0, 6 in part 1"),
        ({"metric": "score", "maximize": True}, "maximize: False in part 0, True in part 1"),
        ({"width": 2}, "width: 1 in part 0, 2 in part 1"),
        ({"seeds": [5]}, r"seeds: \[0\] in part 0, \[5\] in part 1"),
        ({"trials": [*TRIALS[:1], js.Constant(0.02)]}, "trial 1"),
        ({"shard": (2, 3), "trials": [*TRIALS, TRIALS[0]]}, "number of"),
    ],
)
def test_shards_of_another_sweep_are_refused_by_what_differs(tmp_path, arguments, words):
    first = sweep(shared(Line), shard=(0, 2))
    other = sweep(**{"task": shared(Line), "shard": (1, 2), **arguments})
    other.save(tmp_path / "other.npz")
    with pytest.raises(
        ValueError, match=f"got another one in part 1. They differ in .*{words}"
    ) as found:
        search.merge([first, tmp_path / "other.npz"])
    assert not re.search("[0-9a-f]{9}", str(found.value)), "a part of a digest says as much"


def test_shards_under_another_setting_are_refused():
    with jax.threefry_partitionable(False):
        other = sweep(shared(Line), shard=(1, 2))
    with pytest.raises(ValueError, match="jax_threefry_partitionable: True in part 0, False in"):
        search.merge([sweep(shared(Line), shard=(0, 2)), other])


@pytest.mark.parametrize(
    "task", [supervised, Line, lambda: search.Averaged(supervised(), window=3)]
)
def test_a_task_is_known_by_its_public_name_and_trials_by_their_values(tmp_path, task):
    first = sweep(task(), checkpoint=tmp_path)
    (root, *_), _ = _pieces.decoded(*_files.read(next(tmp_path.glob("records-*"))))
    assert re.fullmatch(r"(jaxsched|identity_tasks)\.\w+", root.fields["task"])
    again = sweep(task(), {"one": TRIALS[0], "other": TRIALS[1]}, checkpoint=tmp_path)
    assert [trial.name for trial in again.trials] == ["one", "other"]
    chex.assert_trees_all_equal(dict(again.train), dict(first.train))
    assert again.info.stored == first.steps_trained


# ------------------------------------------------------------------------------------ final scores


@pytest.mark.parametrize(("where", "folds"), [("evaluate", 2), ("step", None), ("batches", None)])
def test_a_final_score_is_of_the_task_of_the_sweep(tmp_path, where, folds):
    sweep(Line(where=where), folds=folds).save(tmp_path / "r.npz")
    result = search.load(tmp_path / "r.npz")
    final = search.final_score(Line(where=where), result)
    assert np.isfinite(final.metrics["loss"]).all()
    with pytest.raises(
        ValueError, match=rf"final_score\(task=...\) .* array \.data: .*task's .*{where}"
    ):
        search.final_score(Line(DATA + 1, where), result)
    old = dataclasses.replace(result, info=search.RunInfo())
    assert search.final_score(Line(DATA + 1, where), old).metrics["loss"].shape == (1,)


def test_the_result_of_a_final_score_can_be_scored_again(tmp_path):
    plateau = js.Plateau(js.Constant(0.1), patience=1)
    result = sweep(Line(), [plateau], evaluate_every=3)
    final = search.final_score(Line(), result)
    final.result.save(tmp_path / "r.npz")
    for again in (final.result, search.load(tmp_path / "r.npz")):
        assert search.final_score(Line(), again).metrics == final.metrics
        assert again.summary().startswith("best of 1 trial")


def test_after_a_cross_validation_too_it_is_trained_on_everything():
    class Whole(Line):
        def everything(self):
            return Line(2 * DATA)

    result = sweep(Whole(), folds=2)
    final = search.final_score(Whole(), result)
    again = search.final_score(Whole(), final.result)
    assert final.metrics == again.metrics
    assert final.metrics != search.final_score(Line(), result).metrics
