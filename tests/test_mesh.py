"""A model on a mesh of the devices of one process."""

import contextlib
import dataclasses
import functools
import os
import shutil
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from mesh_tasks import Wide, mesh_of_all
from sweep_tasks import Plain, flip, interrupted, same, supervised

import jaxsched as js
from jaxsched import search
from jaxsched.search import _files
from jaxsched.search.multihost import _orbax, _processes
from jaxsched.search.multihost._directory import MeshDirectory

TRIALS = [*(js.wsd(0.2, 60, warmup=5, decay=d) for d in (10, 20)), js.Constant(1e30)]
# Where the end is not asked for, a part of the schedules will do.
pytestmark = pytest.mark.filterwarnings("ignore:sweep.steps")


@functools.partial(jax.tree_util.register_dataclass, data_fields=["by"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Given(Plain):
    """A pytree of an array."""

    by: jax.Array

    def evaluate(self, state):
        return {"loss": jnp.sum(self.by) + jnp.sum(state)}


def sweep(directory=None, mesh=None, **arguments):
    mesh = mesh or mesh_of_all()
    arguments = {
        "task": Wide(mesh),
        "trials": TRIALS,
        "steps": 60,
        "evaluate_every": 20,
        **arguments,
    }
    return search.sweep(devices=mesh, checkpoint=directory, checkpoint_every=0.0, **arguments)


@pytest.fixture(scope="module")
def whole():
    return sweep()


# ------------------------------------------------------------------------------- one process


@pytest.mark.optimized
def test_a_model_is_sharded_and_gives_the_results_of_one_device():
    whole, mesh = sweep(), mesh_of_all()
    one = Mesh(mesh.devices[:1], mesh.axis_names)
    alone = search.sweep(Wide(one), TRIALS, steps=60, evaluate_every=20, devices=mesh.devices[:1])
    for group in ("train", "validation"):
        ours, theirs = getattr(whole, group)["loss"], getattr(alone, group)["loss"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert np.array_equal(whole.diverged, alone.diverged)
    assert whole.steps_trained == alone.steps_trained
    assert (whole.info["devices"], whole.info["traces"]) == (2, {"segment": 1, "evaluate": 1})


def test_states_keep_the_layout_of_init():
    seen = []

    class Watched(Wide):
        def init(self, key):
            state = super().init(key)
            jax.debug.inspect_array_sharding(state["params"]["a"], callback=seen.append)
            return state

        def step(self, state, hyperparams, batch):
            jax.debug.inspect_array_sharding(state["params"]["a"], callback=seen.append)
            return super().step(state, hyperparams, batch)

    mesh = mesh_of_all()
    sweep(task=Watched(mesh), steps=20, trials=TRIALS[:1])
    wanted = NamedSharding(mesh, PartitionSpec(None, "model"))
    assert len(seen) >= 2
    assert all(sharding.is_equivalent_to(wanted, 2) for sharding in seen)


def test_a_state_may_begin_as_a_constant():
    class Zeros(Plain):
        def init(self, key):
            return jnp.zeros(3)

    arguments = {"trials": js.Constant(0.1), "steps": 2}
    found = search.sweep(Zeros(), devices=mesh_of_all(), **arguments)
    assert (
        found.train["loss"].tobytes() == search.sweep(Zeros(), **arguments).train["loss"].tobytes()
    )


def test_a_ready_made_task_with_a_layout():
    mesh = mesh_of_all()

    class Spread(search.Supervised):
        def init(self, key):
            def spread(x):
                spec = PartitionSpec(None, "model") if x.shape == (6, 16) else PartitionSpec()
                return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

            return jax.tree.map(spread, super().init(key))

    task = supervised()
    task.__class__ = Spread
    spread = search.sweep(task, TRIALS, steps=60, devices=mesh, seeds=2)
    plain = search.sweep(supervised(), TRIALS, steps=60, seeds=2)
    np.testing.assert_allclose(spread.train["loss"], plain.train["loss"], rtol=1e-4)


def test_the_final_score_on_the_mesh(whole):
    mesh = mesh_of_all()
    with jax.transfer_guard("disallow"):
        final = search.final_score(Wide(mesh), whole, devices=mesh)
    assert final.result.train["loss"].tobytes() == whole.train["loss"][:1].tobytes()
    assert final.metrics["loss"].shape == (1,)
    assert not final.states[0]["params"]["a"].is_fully_replicated


def test_an_interrupted_sweep_goes_on_with_the_same_bits(tmp_path, whole):
    for after in (3, 3):
        interrupted(tmp_path, after, sweep)
    assert list(tmp_path.glob("states-*.orbax"))
    assert same(sweep(tmp_path), whole)
    kept = {path.stem for path in tmp_path.glob("*s-*.npz")}
    assert {path.stem for path in tmp_path.glob("*.orbax")} < kept
    again = sweep(tmp_path)
    assert same(again, whole)
    assert "segment" not in again.info["traces"]


def test_runs_of_a_piece_or_two_are_saved_and_stopped(tmp_path):
    short = {"steps": 5, "evaluate_every": None, "share_prefixes": False}
    interrupted(tmp_path, 2, sweep, **short)
    assert list(tmp_path.glob("records-*.npz"))
    assert same(sweep(tmp_path, **short), sweep(**short))


def flip_data(folder):
    for path in folder.rglob("d/*"):
        flip(path)


# Where Orbax fails in the middle, its readers' callbacks find their event loop closed.
noisy = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@noisy
@pytest.mark.parametrize("damage", [flip_data, shutil.rmtree])
def test_damaged_states_are_named_and_made_again(tmp_path, whole, damage):
    interrupted(tmp_path, 4, sweep)
    newest = sorted(tmp_path.glob("states-*.orbax"))[-1]
    damage(newest)
    with pytest.warns(RuntimeWarning, match=f"{newest.name}.* What it held is trained again"):
        result = sweep(tmp_path)
    assert same(result, whole)


@noisy
@pytest.mark.parametrize("other", ["../outside", "/etc", "link", "kinds", "pipe"])
def test_states_are_read_from_the_folder_of_their_file_only(tmp_path, other):
    (tmp_path / "run").mkdir()
    mesh = mesh_of_all()
    directory = MeshDirectory(tmp_path / "run", [NamedSharding(mesh, PartitionSpec())])
    path = directory.path / "states-1.npz"
    directory.write_states(path, [], {"s0/0": jnp.arange(4.0)})
    assert directory.read(path)[1]["s0/0"].tolist() == [0, 1, 2, 3]
    path.with_suffix(".orbax").rename(tmp_path / "outside")
    told, _ = _files.read(path)
    match other:
        case "link":
            path.with_suffix(".orbax").symlink_to(tmp_path / "outside")
        case "kinds":
            told["kinds"]["s0/0"]["shape"] = "4"
        case _:
            told["orbax"] = other
    _files.write(path, told, {})
    if other == "pipe":
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(_files.Damaged, match=r"states-1\.(npz|orbax): "):
        directory.read(path)


@pytest.mark.optimized
def test_another_size_of_mesh_goes_on_and_says_what_that_means(tmp_path):
    whole = sweep()
    interrupted(tmp_path, 3, sweep)
    smaller = Mesh(mesh_of_all().devices[:1], ("model",))
    with pytest.warns(
        RuntimeWarning, match=r"mesh {'model': 2} of 1 processes, and not on .*'model': 1}"
    ):
        result = sweep(tmp_path, smaller)
    np.testing.assert_allclose(result.train["loss"], whole.train["loss"], rtol=1e-4)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 5000])
def test_bytes_of_any_length_are_sent_in_parts(monkeypatch, size):
    """Whose lengths int32 holds; that of a file of a large model it may not."""
    data = bytes(i * 7 % 251 for i in range(size))
    monkeypatch.setattr(_processes, "_MOST", 1024)
    assert _processes.broadcast_from_first(data) == data
    assert _processes.allgather_bytes(data) == [data]


def test_a_sweep_without_a_mesh_is_another_one(tmp_path):
    interrupted(tmp_path, 3, sweep)
    one = Mesh(mesh_of_all().devices[:1], ("model",))
    with pytest.warns(UserWarning, match=r"differ in mesh: \('model',\) there, none here"):
        search.sweep(Wide(one), TRIALS, steps=60, devices=one.devices[:1], checkpoint=tmp_path)


def test_what_is_left_of_a_save_that_was_cut_off_is_cleared(tmp_path, whole):
    interrupted(tmp_path, 3, sweep)
    newest = sorted(tmp_path.glob("states-*.npz"))[-1]
    newest.unlink()  # as if it had been killed before it was written
    writer = newest.name.split("-")[1]
    (tmp_path / f"states-{writer}-00000099.orbax.orbax-checkpoint-tmp").mkdir()
    assert newest.with_suffix(".orbax").exists()
    assert same(sweep(tmp_path), whole)
    kept = {path.stem for path in tmp_path.glob("*s-*.npz")}
    assert {path.name.split(".")[0] for path in tmp_path.glob("*.orbax*")} < kept


@pytest.mark.parametrize("width", [2, "auto"])
def test_a_mesh_has_one_lane(width):
    mesh = mesh_of_all()
    with pytest.raises(ValueError, match=rf"must be 1 on a mesh, got {width!r}"):
        search.sweep(Wide(mesh), TRIALS, steps=20, devices=mesh, width=width)


def test_a_mesh_has_auto_axes():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Explicit,))
    with pytest.raises(ValueError, match="must be a mesh with Auto axes"):
        search.sweep(Wide(mesh_of_all()), TRIALS, steps=20, devices=mesh)


LAID_OUT = {
    "init": lambda self, key: jax.device_put(jnp.ones(3), self.on),
    "step": lambda self, s, h, b: Plain.step(
        self, jax.lax.with_sharding_constraint(s, self.on), h, b
    ),
    "evaluate": lambda self, s: {"loss": jnp.sum(jax.jit(jnp.abs, out_shardings=self.on)(s))},
}


@pytest.mark.parametrize("method", [*LAID_OUT, "jax.set_mesh"])
def test_a_task_with_a_mesh_of_its_own_must_be_given_it(method):
    mesh = mesh_of_all()
    on = NamedSharding(mesh, PartitionSpec())
    task = type("Own", (Plain,), {"on": on, method: LAID_OUT.get(method)})()
    outside = contextlib.nullcontext() if method in LAID_OUT else jax.set_mesh(mesh)
    words = rf"here 1, got `{method}` with a mesh of 2. Give that to"
    with outside:
        with pytest.raises(ValueError, match="sweep.*" + words):
            search.sweep(task, js.Constant(0.1), steps=50, width="auto")  # before it is measured
        if method != "evaluate":  # which it does not call
            with pytest.raises(ValueError, match="range_test.*" + words):
                search.range_test(task, steps=50)


@pytest.mark.parametrize("devices", ["a mesh", None])
def test_the_axes_of_a_mesh_of_a_task_are_not_explicit(devices):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(AxisType.Explicit,))
    there = jax.device_put(jnp.ones(3), NamedSharding(mesh, PartitionSpec()))
    task = type("Own", (Plain,), {"init": lambda self, key: there})()
    with pytest.raises(ValueError, match=r"got `init` with Explicit axes. Give .* with Auto axes"):
        search.sweep(task, js.Constant(0.1), steps=3, devices=devices and mesh_of_all())


def test_arrays_of_a_task_may_lie_on_the_mesh_already():
    mesh = mesh_of_all()
    there = NamedSharding(mesh, PartitionSpec("model"))
    results = [
        search.sweep(Given(x), js.Constant(0.1), steps=3, devices=mesh)
        for x in (jnp.arange(2.0), jax.device_put(jnp.arange(2.0), there))
    ]
    assert same(*results)


def test_a_mesh_must_have_devices_of_every_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"of every process, got one of the processes \[0\] of 2"):
        search.sweep(Wide(mesh_of_all()), TRIALS, steps=20, devices=mesh_of_all())


def test_without_orbax(tmp_path, monkeypatch):
    interrupted(tmp_path / "run", 3, sweep)
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match="on a mesh needs Orbax: pip install orbax-checkpoint"):
        sweep(tmp_path)


# ------------------------------------------------------------------------------------ checksums


ARRAYS = {
    dtype: np.random.RandomState(0).randint(0, 2, (8, 12)).astype(jnp.dtype(dtype))
    for dtype in ("float32", "bfloat16", "int8", "bool", "uint32", "complex64", "float8_e4m3fn")
}


@pytest.mark.parametrize("dtype", list(ARRAYS))
def test_a_checksum_does_not_depend_on_the_sharding(dtype):
    mesh = mesh_of_all()
    found = set()
    for spec in ((), ("model",), (None, "model")):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        found |= set(_orbax.checksums({"x": jax.device_put(ARRAYS[dtype], sharding)}).values())
    assert len(found) == 1


def test_a_checksum_sees_every_bit_and_every_exchange():
    x = np.random.RandomState(0).randn(3, 5).astype(np.float32)
    changed = [x[::-1], x[:, ::-1], x.reshape(5, 3).T, -x]
    for bit in range(0, 8 * x.nbytes, 7):
        data = bytearray(x.tobytes())
        data[bit // 8] ^= 1 << bit % 8
        changed.append(np.frombuffer(bytes(data), np.float32).reshape(x.shape))
    sums = _orbax.checksums({str(i): np.array(y) for i, y in enumerate([x, *changed])})
    assert len(set(sums.values())) == len(sums)


def test_arrays_of_any_kind_come_back(tmp_path):
    arrays = {
        **{dtype: jnp.asarray(x) for dtype, x in ARRAYS.items()},
        "scalar": jnp.float32(3),
        "empty": jnp.zeros((0, 3)),
        "key": jax.random.key(7),
        "keys": jax.random.split(jax.random.key(7, impl="rbg"), 4),
        "host": np.arange(3),
    }
    kinds = _orbax.save(tmp_path / "x", arrays)
    mesh = mesh_of_all()
    shardings = dict.fromkeys(kinds, NamedSharding(mesh, PartitionSpec()))
    read = _orbax.load(tmp_path / "x", kinds, shardings)
    held = {name: x for name, x in read.items() if x.size}
    chex.assert_tree_is_sharded(held, devices=list(mesh.devices.flat))
    back, changed = _orbax.verified(read, kinds)
    assert not changed
    for name, x in arrays.items():
        assert back[name].dtype == jnp.asarray(x).dtype
        assert np.array_equal(*(_bits(y) for y in (back[name], x)))


def _bits(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)
