"""The command: what it prints, its exit codes, and what it loads."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from sweep_tasks import Plain

import jaxsched as js
from jaxsched.command import _sweep as command_sweep
from jaxsched.command import convert, read_file, sweep_from_config
from jaxsched.command._main import main, make_parser
from jaxsched.command._sweep import executor_of
from jaxsched.names import entries

TEXT = "warmup_cosine(peak=1e-3, steps=1000, warmup=10%)"


def run(capsys, *arguments):
    code = main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


WITHOUT_JAX = [
    ["--help"],
    ["sweep", "--help"],
    ["show", "warmup_cosne(1)"],
    ["show", "warmup_cosine(peak_value=1)"],
    ["show", "warmup_cosine(peak=-1, steps=1000, warmup=10%)"],
    ["show", "warmup_cosine(peak=1, steps=abc, warmup=10%)"],
    ["show", "Linear(0, 1, 3 epochs) >> constant(1)"],
    ["show", "Plateau(constant(1), mode=less)"],
    ["show", "constant(1)", "--units", "batch_size=3"],
    ["convert", "hf", "get_linear_schedule_with_warmup(opt, -1, 9)", "--lr", "0.1"],
    ["plot", "constant(1)", "-o", "curve.doc"],
    ["convert", "torch", "StpLR(30)"],
    ["convert", "torch", "StepLR(stepsize=30)", "--lr", "0.1"],
    ["names", "OneCycle"],
    ["sweep", "a:b", "missing.toml"],
    ["completion", "fish"],
]


def test_help_and_slips_load_no_jax():
    program = f"""
        import sys
        from jaxsched.command._main import main
        for arguments in {WITHOUT_JAX}:
            try:
                main(arguments)
            except SystemExit:
                pass
            assert not {{"jax", "numpy"}} & set(sys.modules), arguments
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_python_m_and_the_script_are_one_command():
    done = subprocess.run(
        [sys.executable, "-m", "jaxsched", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"jaxsched {js.__version__}\n"
    project = tomllib.loads(Path(js.__file__).parents[1].joinpath("pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"jaxsched": f"{main.__module__}:{main.__name__}"}


def test_show_tells_a_schedule_in_words_blocks_values_json_and_python(capsys):
    code, out, _ = run(capsys, "show", TEXT)
    lines = out.splitlines()
    assert code == 0
    rise, fall = "Linear from 0 to 0.001 in 100 steps", "Cosine from 0.001 to 0 in 900 steps"
    assert lines[0] == f"{rise}, then {fall}, which holds."
    assert "  step 100        0.001" in lines
    wanted = js.warmup_cosine(1e-3, 1000, 100)
    assert js.from_json(lines[-2].removeprefix("JSON    ")) == wanted
    assert eval(lines[-1].removeprefix("Python  "), {"js": js}) == wanted


def test_show_takes_units_and_files(capsys, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"name": "linear_decay", "peak": 1, "steps": "2 epochs"}))
    grown = "batch=[[0,5],[0.05k,15]],samples=0.1k"  # 10 updates of 5, 10 of 15
    table = tmp_path / "a.toml"
    sizes = "[run]\nbatch = 5\nsamples = 100"
    table.write_text(f'{sizes}\n[schedule]\nname = "linear_decay"\npeak = 1\nsteps = "2 epochs"')
    for text, units in (
        (str(file), "batch=10,samples=100"),
        (str(table), "batch=10"),
        ("linear_decay(1, 2 epochs)", "batch=10,samples=100"),
        ("linear_decay(1, 2 epochs)", grown),
    ):
        code, out, _ = run(capsys, "show", text, "--units", units)
        assert (code, out.splitlines()[0][:36]) == (0, "Linear from 1 to 0 in 20 steps, whic")
    file.write_text(json.dumps({"name": "Shift", "schedule": "linear_decay(1, 9)", "steps": 5}))
    assert "js.Shift(" in run(capsys, "show", str(file))[1]  # an argument, and no table


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot_writes_a_picture(capsys, tmp_path, ending):
    file = tmp_path / f"curve.{ending}"
    assert run(capsys, "plot", TEXT, "Linear(0, 1e-3, 500)", "-o", str(file)) == (0, "", "")
    assert file.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_convert_prints_what_the_function_gives(capsys):
    arguments = ("torch", "StepLR(o, 30)")
    shown = run(capsys, "convert", *arguments, "--lr", "0.1", "--steps-per-epoch", "5")
    assert shown == (0, f"{convert(*arguments, 0.1, steps_per_epoch=5)}\n", "")


def test_names_are_found_by_those_of_others(capsys):
    code, out, _ = run(capsys, "names", "CosineAnnealingWarmRestarts")
    assert code == 0 and "warm_restarts(peak, steps" in out
    assert run(capsys, "names", "no such thing")[0] == 1
    assert run(capsys, "names", "one", "cycle") == run(capsys, "names", "one cycle")
    assert run(capsys, "names", "AveragedModel")[1].startswith("js.Average\n")
    assert "; did you mean warmup_" in run(capsys, "names", "wramup")[2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["shwo", TEXT], "did you mean show"),
        (["wramup"], "did you mean jaxsched show 'wramup', or jaxsched names 'wramup'"),
        (["find", "a:b", "--strat", "1"], "--strat 1; did you mean --start"),
        (["convert", "pytroch", "StepLR(o, 3)"], "did you mean pytorch"),
        (["completion", "bahs"], "did you mean bash"),
        (["show", "cosine_decay(0.1,", "100)"], "100); a text with spaces stands in quotes"),
    ],
    ids=str,
)
def test_a_misspelt_command_or_option_is_answered_with_the_nearest(capsys, arguments, told):
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.endswith(f"{told}\n")


PLAIN = "Linear(steps=...) must be a plain number within Epochwise"

RATE = ("--lr", "0.1")

EACH = "--steps-per-epoch=5"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "constant(-1)"], "constant(peak=...) must be at least 0, got -1"),
        (["show", "constant"], "must be a call such as constant(peak, steps=...), got 'constant'"),
        (["show", TEXT, "--units", "batch"], "--units must be such as"),
        (["show", TEXT, "--units", "batch=1m"], "'50k', got '1m': 1M is 1,000,000"),
        (["plot", TEXT, "-o", "a.txt"], "--output must end in"),
        (["plot", TEXT, "-o", "/no/such/folder/a.svg"], "--output must be a file that can be"),
        (["find", "a:b", "-o", "/no/such/folder/a.svg"], "--output must be a file that can be"),
        (["show", TEXT, "--units", "batch=2)+(1"], "--units must be such as"),
        (["sweep", "a:b", "sweep.ini"], "must end in .toml"),
        (["show", "-"], "standard input is not read"),
        (["show", "Epochwise(Linear(0, 1, 3 epochs), 9)", "--units", "batch=1,samples=9"], PLAIN),
        (["convert", "torch", "OneCycleLR(o, 1, 9)", "--steps-per-epoch", "5"], "once an update"),
        (
            ["convert", "timm", "StepLRScheduler(o, 9, t_in_epochs=False)", *RATE, EACH],
            "once an update",
        ),
        (
            ["convert", "detectron2", "WarmupMultiStepLR(o, [9])"],
            "js.Linear(factor, 1.0, warmup) *",
        ),
        (["convert", "composer", "Trainer(m)"], "got 'composer.Trainer'.\n"),
        (["convert", "timm", "PlateauLRScheduler(o)", *RATE, "--steps-per-epoch=5"], "reports"),
        (["find", "no_such_module:task"], "must name what can be imported"),
        (["find", "sweep_tasks:Plian", "--schedule", "cosine"], "'Plian'; did you mean Plain"),
        (
            ["convert", "torch", "StepLR(o, 3, 0.1 * x)"],
            "in place of x, which only the program knows",
        ),
        (["convert", "torch", "StepLR(o, len(x))"], "in place of len(x) (line 1), which only"),
        (["convert", "timm", "create_scheduler_v2(o)"], "it is timm.CosineLRScheduler here"),
    ],
    ids=str,
)
def test_a_slip_is_one_line_and_exit_code_2(capsys, arguments, said):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err and err.startswith("jaxsched: ") and "Traceback" not in err


@pytest.mark.parametrize("arguments", [["names", "SGDR"], ["show", TEXT]], ids=str)
def test_every_terminal_can_show_what_is_printed(monkeypatch, arguments):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    assert main(arguments) == 0
    assert b"step" in raw.getvalue()


def test_a_full_disk_is_told_and_a_closed_pipe_is_not(monkeypatch, capsys):
    with open(os.devnull, "w") as out:
        out.flush = mock.Mock(side_effect=[OSError(28, "No space left"), BrokenPipeError(), None])
        monkeypatch.setattr(sys, "stdout", out)
        assert [main(["names", "SGDR"]), main(["names", "SGDR"])] == [2, 0]
    assert capsys.readouterr().err == "jaxsched: [Errno 28] No space left\n"


SWEEP = """
seeds = 2
metric = { name = "loss", goal = "minimize" }
steps = "1 epoch"
[run]
batch = 5
samples = 60
[sweep]
name = "warmup_cosine"
[sweep.parameters]
peak = { values = ["1e-2", 0.1] }
steps = "1 epoch"
warmup = "25%"
[sweep.hyperparameters]
weight_decay = { values = [0, "1e-1"] }
"""


def test_a_sweep_of_a_config_is_the_sweep_in_python(capsys, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP)

    def both(peak, steps, warmup, weight_decay):
        rate = js.warmup_cosine(peak, steps, warmup)
        return {"learning_rate": rate, "weight_decay": weight_decay}

    values = dict(peak=[1e-2, 0.1], steps=12, warmup=js.share(0.25), weight_decay=[0, 0.1])
    trials = js.grid({"warmup_cosine": both}, **values)
    wanted = js.sweep(Plain(), trials, steps=12, seeds=2, metric="loss", maximize=False)
    got = sweep_from_config(Plain(), read_file(file))
    assert got.trials == wanted.trials
    np.testing.assert_array_equal(got.train["loss"], wanted.train["loss"])
    save, plot = tmp_path / "r.npz", tmp_path / "r.svg"
    code, out, _ = run(
        capsys, "sweep", "sweep_tasks:Plain", str(file), "--save", str(save), "-o", str(plot)
    )
    assert code == 0 and str(wanted.summary())[:20] in out
    assert js.search.load(save).trials == wanted.trials
    assert plot.exists()


def test_a_picture_without_matplotlib_is_refused_before_the_training(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run(capsys, "find", "no_such:task", "-o", "a.svg")
    assert (code, err[:36]) == (2, "jaxsched: --output needs matplotlib,")


def test_errors_of_a_tasks_own_code_keep_their_traceback_and_ours_have_no_note_of_jax(
    capsys, tmp_path, monkeypatch
):
    tmp_path.joinpath("of_mine.py").write_text(
        "import optax\nfrom sweep_tasks import supervised\n"
        "def boom():\n    return float('x')\n"
        "def needy():\n    return supervised(lambda learning_rate, decay: optax.sgd(0.1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="could not convert"):
        main(["find", "of_mine:boom"])
    code, _, err = run(capsys, "find", "of_mine:needy")
    assert code == 2 and "'decay'], each with a " in err and "in `step` of" in err
    assert "JAX" not in err


def test_an_interrupted_sweep_is_shown_and_saved_and_exits_with_130(capsys, tmp_path, monkeypatch):
    file, save = tmp_path / "sweep.toml", tmp_path / "r.npz"
    file.write_text(SWEEP)
    result = js.sweep(Plain(), [js.Constant(0.1)], steps=3)
    partial = dataclasses.replace(result, info=dataclasses.replace(result.info, partial=True))
    monkeypatch.setattr(command_sweep, "sweep", lambda *_, **__: partial)
    code, out, _ = run(capsys, "sweep", "sweep_tasks:Plain", str(file), "--save", str(save))
    assert code == 130 and "partial" in out and js.search.load(save).partial

    def stopped(*_, **__):
        raise KeyboardInterrupt("saved in runs")

    monkeypatch.setattr(command_sweep, "sweep", stopped)
    code, _, err = run(capsys, "sweep", "sweep_tasks:Plain", str(file))
    assert (code, err) == (130, "jaxsched: saved in runs\n")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stepz": 3}, "did you mean steps"),
        ({"metric": {"name": "loss", "goal": "less"}}, "the goal minimize or maximize"),
        (
            {"stopping": {"name": "Hyperband"}},
            "name, must be one of 'MedianRule', 'SuccessiveHalving'",
        ),
        ({"stopping": {"name": "MedianRule"}}, "MedianRule must be given every"),
        ({"stopping": {"name": "MedianRule", "every": "0 epochs"}}, "every.* at least 1, got 0"),
        ({"evaluate_every": "101%"}, "must be from 0% to 100%"),
        ({"run": 3}, "must be a table"),
        ({"executor": "threads"}, "must be processes, processes:COUNT"),
        ({"run": {"batch_size": 3}}, "it is called batch here"),
        ({"sweep": None}, "must have a table 'sweep'"),
        ({"hyperparameters": {}}, r"the table of the trials: sweep\.hyperparameters\.$"),
        ({"runs": {"batch": 3}}, "no argument runs; did you mean run"),
    ],
    ids=str,
)
def test_a_slip_in_a_config_of_a_sweep_is_told_before_training(changed, said):
    with pytest.raises((ValueError, TypeError), match=said):
        sweep_from_config("no:task", {**tomllib.loads(SWEEP), **changed})


def test_an_executor_is_said_by_a_word():
    assert executor_of("processes:2").args[0] == 2
    assert executor_of(None) is None
    for word in ("threads", "processes:x", "processes:0", "dask"):
        with pytest.raises(ValueError, match="processes:COUNT"):
            executor_of(word)


# How a shell is asked for the completions of `jaxsched show warmup_co`, with the script at {0}.
ASK = {
    "bash": "source {0}; COMP_WORDS=(jaxsched show warmup_co); COMP_CWORD=2; _jaxsched; "
    'echo "${{COMPREPLY[*]}}"',
    "zsh": "compdef() {{ : }}; source {0}; "
    "f() {{ local COMP_WORDS=(jaxsched show warmup_co) COMP_CWORD=2; compgen -F _jaxsched; }}; f",
    "fish": 'source {0}; complete -C "jaxsched show warmup_co"',
}


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes_commands_and_names(capsys, tmp_path, shell):
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    assert all(entry.name in out for entry in entries() if entry.module)
    if not shutil.which(shell):
        return
    script = tmp_path / "script"
    script.write_text(out)
    bare = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
    done = subprocess.run(
        [shell, bare, "-c", ASK[shell].format(script)], capture_output=True, text=True
    )
    found = [word for word in done.stdout.split() if word.startswith("warmup_co")]
    assert sorted(found) == ["warmup_constant", "warmup_cosine"], done.stderr
    assert "--units" in done.stdout if shell == "zsh" else len(found) == len(done.stdout.split())
    assert "--executor" not in done.stdout


def test_the_help_of_every_command_has_a_text():
    assert "examples:" in make_parser().format_help()
