"""The command: its arguments, and which function does what. A slip is answered without JAX."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from jaxsched.command._completion import SHELLS, completion
from jaxsched.command._files import read_file
from jaxsched.names._expression import Call, parse
from jaxsched.names._lookup import LIBRARY, check, entries

_EXAMPLES = """\
examples:
  jaxsched show "warmup_cosine(peak=1e-3, steps=1000, warmup=10%)"
  jaxsched show "wsd(0.1, steps=90 epochs, warmup=5%, decay=20%)" --units batch=256,samples=50000
  jaxsched plot "cosine_decay(0.1, 100)" "torch.CosineAnnealingLR(0.1, 100)" -o curves.svg
  jaxsched names SGDR
  jaxsched convert torch "CosineAnnealingWarmRestarts(T_0=10, T_mult=2, eta_min=1e-5)" --lr 0.1
  jaxsched find package.module:task
  jaxsched sweep package.module:task sweep.toml --executor processes:4

A text is written as docs/config.md says. Exit codes: 0, 1 (nothing was found: all diverged),
2 (an argument, a text or a config is wrong), 130 (Ctrl-C).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except (ValueError, TypeError, ImportError) as error:
        if given.traceback:
            raise
        notes = [f"  {note}" for note in getattr(error, "__notes__", [])]
        print("\n".join([f"{parser.prog}: {error}", *notes]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `jaxsched names | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    from jaxsched import __version__

    parser = argparse.ArgumentParser(
        prog="jaxsched",
        description="Learning-rate schedules: shown, plotted, converted, tested and compared.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jaxsched {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    show = command("show", _show, "a schedule in words, blocks, values, JSON and Python")
    show.add_argument(
        "text", help='such as "warmup_cosine(1e-3, 1000, warmup=10%%)", or a config file'
    )
    plot = command("plot", _plot, "draw schedules into a file (needs jaxsched[plot])")
    plot.add_argument("texts", nargs="+", metavar="text", help="as of show")
    plot.add_argument("-o", "--output", required=True, help="a .png, .svg or .pdf file")
    plot.add_argument("--steps", type=int, help="the last step that is drawn")
    plot.add_argument("--log", action="store_true", help="a logarithmic value axis")
    for each in (show, plot):
        each.add_argument(
            "--units", help="sizes of the run, for epochs and tokens: batch=32,samples=50000"
        )
    names = command("names", _names, "search the names, also by those of other libraries")
    names.add_argument("word", nargs="?", default="", help="a part of a name or its text")
    convert = command("convert", _convert, "a schedule of another library as ours")
    convert.add_argument(
        "library", choices=list(LIBRARY), metavar="library", help=", ".join(LIBRARY)
    )
    convert.add_argument("text", help='its call without the optimizer: "StepLR(30, gamma=0.1)"')
    convert.add_argument("--lr", type=float, help="the rate of the optimizer")
    find = command("find", _find, "an LR range test: which peak a task wants")
    sweep = command("sweep", _sweep, "train and rank the trials of a config")
    for each in (find, sweep):
        each.add_argument("task", help="package.module:factory, a function that returns the task")
    find.add_argument("--schedule", help="what the real run will follow: a text as of show")
    find.add_argument("--seeds", type=int, default=4, help="how many seeds (4)")
    find.add_argument("--start", type=float, default=1e-7, help="the least rate (1e-7)")
    find.add_argument("--end", type=float, default=10.0, help="the largest rate (10)")
    find.add_argument("--steps", type=int, help="updates of each seed")
    sweep.add_argument("config", help="a .toml, .json or .yaml file")
    sweep.add_argument("--executor", help="processes:4, dask:ADDRESS or submitit:FOLDER")
    sweep.add_argument("--checkpoint", help="a directory, from which the same call goes on")
    sweep.add_argument("--save", help="a .npz file for the result, see js.search.load")
    for each in (find, sweep):
        each.add_argument("-o", "--output", help="a .png, .svg or .pdf file for the plot")
    shell = command("completion", _completion, "a script with which a shell completes this command")
    shell.add_argument("shell", choices=SHELLS)
    return parser


def _show(given: argparse.Namespace) -> int:
    made = _schedule(given.text, given.units)
    from jaxsched.command._explain import explain

    print(explain(made))
    return 0


def _plot(given: argparse.Namespace) -> int:
    _check_output(given.output)
    for text in given.texts:
        _checked(text)
    made = [_schedule(text, given.units) for text in given.texts]
    from matplotlib.figure import Figure

    from jaxsched._plot import plot

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    plot(
        *made,
        ax=figure.add_subplot(),
        labels=[" ".join(t.split()) for t in given.texts],
        log=given.log,
        steps=given.steps,
    )
    figure.savefig(given.output)
    return 0


def _names(given: argparse.Namespace) -> int:
    found = entries(given.word)
    if not found:
        print(f"jaxsched: no name has {given.word!r} in it", file=sys.stderr)
        return 1
    for entry in found:
        print(entry.call)
        told = [f"{entry.summary}"] + [f"elsewhere: {', '.join(entry.elsewhere)}"] * bool(
            entry.elsewhere
        )
        for line in told:
            print(textwrap.fill(line, 96, initial_indent="    ", subsequent_indent="    "))
    return 0


def _convert(given: argparse.Namespace) -> int:
    # First what needs no JAX.
    from jaxsched.command._calls import call_of

    call_of(given.library, given.text, given.lr)
    from jaxsched.command._convert import convert

    print(convert(given.library, given.text, given.lr))
    return 0


def _find(given: argparse.Namespace) -> int:
    if given.output:
        _check_output(given.output)
    schedule = None if given.schedule is None else _schedule(given.schedule, None)
    _see_working_directory()
    from jaxsched.search.range_tests._run import range_test

    found = range_test(
        given.task, given.start, given.end, given.steps, seeds=given.seeds, schedule=schedule
    )
    print(found)
    _draw(found, given.output)
    return 0 if found.peak is not None else 1


def _sweep(given: argparse.Namespace) -> int:
    config = read_file(given.config)
    if given.output:
        _check_output(given.output)
    if given.checkpoint:
        config["checkpoint"] = given.checkpoint
    _see_working_directory()
    from jaxsched.command._sweep import sweep_from_config

    result = sweep_from_config(given.task, config, executor=given.executor)
    print(result.table())
    print(result.summary())
    if given.save:
        result.save(given.save)
    _draw(result, given.output)
    return 1 if (result.diverged >= 0).all() else 0


def _completion(given: argparse.Namespace) -> int:
    print(completion(given.shell, make_parser()))
    return 0


def _checked(text: str) -> Any:
    """What a text or a file describes, as far as it can be checked without JAX."""
    if text.endswith((".toml", ".json", ".yaml", ".yml")):
        return read_file(text)
    tree = parse(text, "the text")
    if not isinstance(tree, Call):
        raise ValueError(
            f"the text must be a call such as cosine_decay(0.1, 1000), got {text!r:.60}."
        )
    check(tree)
    return text


def _schedule(text: str, units: str | None) -> Any:
    config, sizes = _checked(text), _sizes(units)
    from jaxsched.names._config import from_config
    from jaxsched.units import Units

    return from_config(config, units=Units(**sizes) if sizes else None)


def _sizes(units: str | None) -> dict[str, Any]:
    pairs = [pair.partition("=") for pair in units.split(",")] if units else []
    for name, sign, value in pairs:
        if not sign or not name.strip().isidentifier() or not value.strip().isdecimal():
            raise ValueError(f"--units must be such as batch=32,samples=50000, got {units!r:.60}.")
    return {name.strip(): int(value) for name, _, value in pairs}


def _check_output(path: str) -> None:
    if not path.lower().endswith((".png", ".svg", ".pdf")):
        raise ValueError(f"--output must end in .png, .svg or .pdf, got {path!r}.")


def _draw(result: Any, path: str | None) -> None:
    if path:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        result.plot(ax=figure.add_subplot())
        figure.savefig(path)


def _see_working_directory() -> None:
    """A task is found from where one is, as by ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
