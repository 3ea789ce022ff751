"""The examples run, their data are what they say, and their claim holds in a reduced run."""

import sys

import jax
import numpy as np
import pytest
from flax import nnx

import jaxsched as js
from examples import (
    compare_kinds,
    datasets,
    digits_cnn,
    letter_linen,
    letter_mlp,
    population,
    report,
    watching,
)

NAMES = sorted(datasets.EXPECTED)

# ------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize("name", NAMES)
def test_data_have_the_promised_shapes_and_classes(name):
    data = datasets.load(name)
    _, shape, classes, sizes = datasets.EXPECTED[name]
    assert tuple(len(part.y) for part in data[:3]) == sizes
    for part in data[:3]:
        assert part.x.shape == (len(part.y), *shape)
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int32
        assert set(part.y) == set(range(classes))
        assert np.isfinite(part.x).all()
    assert data.classes == classes


@pytest.mark.parametrize("name", NAMES)
def test_no_row_occurs_twice_so_the_parts_are_disjoint(name):
    data = datasets.load(name)
    rows = np.concatenate([part.x.reshape(len(part.x), -1) for part in data[:3]])
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_standardised_with_the_training_part(name):
    x = datasets.load(name).train.x
    axis = 0 if name == "letter" else None
    np.testing.assert_allclose(x.mean(axis), 0.0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis), 1.0, atol=1e-4)


def test_the_test_digits_are_those_of_other_writers():
    # The first image of scikit-learn's digits, a zero, is one of a test writer.
    first = "0 0 5 13 9 1 0 0 0 0 13 15 10 15 5 0 0 3 15 2 0 11 8 0 0 4 12 0 0 8 8 0"
    first += " 0 5 8 0 0 9 8 0 0 4 11 0 1 12 7 0 0 2 14 5 10 12 0 0 0 0 6 13 10 0 0 0"
    image = np.array(first.split(), np.uint8).reshape(8, 8)
    with np.load(datasets.FOLDER / "optdigits.npz") as file:
        assert (file["x_test"] == image).all((1, 2)).sum() == 1
        assert not (file["x"] == image).all((1, 2)).any()


def test_the_split_is_the_same_every_time():
    assert datasets.load("letter").test.y[:8].tolist() == [14, 9, 20, 17, 13, 21, 19, 9]


def test_data_are_small():
    sizes = [file.stat().st_size for file in datasets.FOLDER.glob("*.npz")]
    assert len(sizes) == 4
    assert max(sizes) < 400_000
    assert sum(sizes) < 1_000_000


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match="must be one of"):
        datasets.load("cifar")


# --------------------------------------------------------------------------------------- programs


def run(example, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["example", *map(str, arguments)])
    return example.main()


def fewer_kinds(example, monkeypatch, *dropped):
    kinds = {name: make for name, make in example.KINDS.items() if name not in dropped}
    monkeypatch.setattr(example, "KINDS", kinds)


def fewer_rows(monkeypatch, **most):
    """To evaluate on all ten times in each run takes longer than to train it."""
    load = datasets.load

    def cut(name):
        data = load(name)
        parts = {p: datasets.Part(*(a[:n] for a in getattr(data, p))) for p, n in most.items()}
        return data._replace(**parts)

    monkeypatch.setattr(datasets, "load", cut)


def test_decaying_beats_holding_and_the_tuned_constant(tmp_path, monkeypatch, capsys):
    out = tmp_path / "made" / "figure.png"
    fewer_rows(monkeypatch, val=400)
    fewer_kinds(letter_mlp, monkeypatch, "linear to 0", "warmup 10 %, cosine", "one-cycle")
    monkeypatch.setattr(letter_mlp, "PEAKS", [0.04, 0.16])
    monkeypatch.setattr(letter_mlp, "PEAK", 0.16)
    tests = run(letter_mlp, monkeypatch, "--seeds", 2, "--steps", 400, "--out", out)
    printed = capsys.readouterr().out
    assert "constant 0.04, averaged weights" in printed
    assert "each at its own best setting" in printed
    assert out.read_bytes().startswith(b"\x89PNG")
    held, cosine = tests.at_peak["constant"], tests.at_peak["cosine to 0"]
    (tuned_rate, tuned), (averaged_rate, averaged) = tests.tuned, tests.averaged
    assert tuned_rate == averaged_rate == 0.04
    assert (cosine > held + 10.0).all()
    assert (cosine > tuned + 1.0).all()
    assert (averaged > tuned + 1.0).all()  # averaging the weights helps, too


def test_the_cnn_is_compared(tmp_path, monkeypatch, capsys):
    out = tmp_path / "figure.png"
    fewer_rows(monkeypatch, val=100, test=100)
    fewer_kinds(digits_cnn, monkeypatch, "linear to 0", "warmup 10 %, cosine")
    run(digits_cnn, monkeypatch, "--quick", "--data", "optdigits", "--out", out)
    printed = capsys.readouterr().out
    assert "cosine to 0" in printed
    assert "averaged weights" in printed
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", sorted(digits_cnn.SETTINGS))
def test_the_cnn_fits_its_data(name):
    data = datasets.load(name)
    shape = data.train.x.shape[1:]
    setting = digits_cnn.SETTINGS[name]
    make = lambda: digits_cnn.CNN(shape, setting, data.classes, nnx.Rngs(0))(data.val.x[:3])
    assert jax.eval_shape(make).shape == (3, data.classes)
    assert setting.steps % 10 == 0


def test_a_population_is_one_program_and_its_members_train_as_alone(monkeypatch, capsys):
    monkeypatch.setattr(population, "STEPS", 30)
    monkeypatch.setattr(population, "PEAKS", [0.05, 0.2])
    together = np.array(run(population, monkeypatch))
    assert "peak" in capsys.readouterr().out
    schedules, *rest = population.problem()
    alone = jax.jit(population.train)(jax.tree.map(lambda x: x[1], schedules), *rest)
    np.testing.assert_allclose(together[1], alone, atol=0.2)
    assert together[0] != together[1]


def test_rules_that_watch_are_compared(tmp_path, monkeypatch, capsys):
    out = tmp_path / "watching.png"
    fewer_rows(monkeypatch, val=100, test=100)
    monkeypatch.setattr(watching, "PEAKS", [0.02, 0.08])
    run(watching, monkeypatch, "--quick", "--out", out)
    printed = capsys.readouterr().out
    for rule in watching.COLORS:
        assert f"{rule}  " in printed
    assert "short of cosine with a known horizon" in printed
    assert out.read_bytes().startswith(b"\x89PNG")


def test_kinds_are_compared_at_their_own_best_peaks(tmp_path, monkeypatch, capsys):
    out = tmp_path / "kinds.png"
    monkeypatch.setattr(compare_kinds, "PEAKS", [0.16, 0.32, 0.64])
    result = run(compare_kinds, monkeypatch, "--seeds", 3, "--steps", 400, "--out", out)
    assert "kind on the test data" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")
    best = {name: kind.best.index for name, kind in result.compare().contenders.items()}
    assert result.difference(best["cosine"], best["linear"]).differs is False
    assert result.difference(best["cosine"], best["constant"]).differs


def test_linen_example_prints_the_applied_rates(monkeypatch, capsys):
    run(letter_linen, monkeypatch, "--quick")
    printed = capsys.readouterr().out
    decayed = js.cosine_decay(letter_linen.PEAK, 100)
    for step in (25, 50, 75, 100):  # the rate of update number step - 1
        assert f"step {step:4d}  rate {float(decayed(step - 1)):.3g}" in printed


def test_paired_gain():
    assert report.gain(np.array([3.0, 5.0]), np.array([1.0, 2.0])) == "+2.50 (0.50)"
    assert report.gain(np.ones(2), np.ones(2)) == "-"
    assert report.mean_std(np.array([1.0, 3.0])) == "2.00 ± 1.41"
