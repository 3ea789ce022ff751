"""The command: its arguments, and the function of each part. A slip is answered without JAX."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn

from jaxsched._numerals import size
from jaxsched._text import notes_of
from jaxsched._words import bind, did_you_mean
from jaxsched.command._completion import SHELLS, completion
from jaxsched.command._files import read_file
from jaxsched.names._expression import Call, parse
from jaxsched.names._lookup import LIBRARY, check, check_values, entries, source_of, unknown
from jaxsched.names._places import Place
from jaxsched.names._sources import PACKAGE, unit_names

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
    # Imports of JAX are in the functions that make a schedule: `--help`, a slip and `names` answer
    # in 0.1 to 0.2 s, with JAX it would take more than a second. An unknown option is refused by
    # the subcommand's parser, which alone knows similar ones.
    parser = make_parser()
    given, rest = parser.parse_known_args(arguments)
    if rest:
        given.parser.error(f"unrecognized arguments: {' '.join(rest)}")

    def tell(message: object) -> None:
        print(f"{parser.prog}: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell(f"warning: {message}")
            code = int(given.run(given))
            sys.stdout.flush()  # while its error can still be shown
            return code
    except (ValueError, TypeError, ImportError, OSError) as error:
        # `jaxsched names | head` closes the pipe: Python would tell of it once more when it flushes
        # at its end, so the rest goes nowhere.
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        # For an error of ours the message is enough. An error from a task's code is a bug of the
        # task, and the user needs the traceback.
        if given.traceback or not (isinstance(error, OSError) or _is_ours(error.__traceback__)):
            raise
        tell("\n".join([str(error), *(f"  {note}" for note in notes_of(error))]))
        return 2
    except KeyboardInterrupt as interrupt:
        if str(interrupt):
            tell(interrupt)
        return 130


def _is_ours(trace: TracebackType | None) -> bool:
    """Whether jaxsched raised an error; of one in a task's code, the place is the news."""
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)


def _say(text: object) -> None:
    """Prints the answer, with other signs where the terminal's encoding lacks them."""
    try:
        print(text)
    except UnicodeEncodeError:
        plain = str(text).translate(str.maketrans("▁▂▃▄▅▆▇█", "_.:-=+*#"))
        print(plain.encode("ascii", "backslashreplace").decode())


class _Parser(argparse.ArgumentParser):
    """Adds to its errors the word that was meant."""

    def error(self, message: str) -> NoReturn:
        # argparse tells this method no more than its message: the word is read back from it.
        match = re.search(r"invalid choice: '(.*?)' \(|unrecognized arguments: (\S+)", message)
        word = (match[1] or match[2]) if match else ""
        known = [o for a in self._actions for o in (*a.option_strings, *(a.choices or ()))]
        hint = did_you_mean(word, known)
        if match and not hint and match[1] and self._subparsers:
            hint = f"; did you mean {self.prog} show {word!r}, or {self.prog} names {word!r}"
        elif match and not hint and not word.startswith("-"):
            hint = "; a text with spaces stands in quotes"
        super().error(message + hint)


def make_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    from jaxsched import __version__

    parser = _Parser(
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
        made.set_defaults(run=run, parser=made)
        return made

    show = command("show", _show, "a schedule in words, blocks, values, JSON and Python")
    plot = command("plot", _plot, "draw schedules into a file (needs jaxsched[plot])")
    names = command("names", _names, "search the names, also by those of other libraries")
    names.add_argument("words", nargs="*", metavar="word", help="parts of a name or its text")
    _take_texts(show, plot)
    _take_call(command("convert", _convert, "a schedule of another library as ours"))
    find = command("find", _find, "an LR range test: which peak a task wants")
    _take_task(find, command("sweep", _sweep, "train and rank the trials of a config"))
    shell = command("completion", _completion, "a script with which a shell completes this command")
    shell.add_argument("shell", choices=SHELLS)
    return parser


_UNITS = "sizes of the run, for epochs and tokens: batch=32,samples=50k"


def _take_texts(show: argparse.ArgumentParser, plot: argparse.ArgumentParser) -> None:
    """The arguments of commands that take a schedule as a text."""
    show.add_argument(
        "text", help='such as "warmup_cosine(1e-3, 1000, warmup=10%%)", or a config file'
    )
    show.add_argument("--units", help=_UNITS)
    plot.add_argument("texts", nargs="+", metavar="text", help="as of show")
    plot.add_argument("-o", "--output", required=True, help="a .png, .svg or .pdf file")
    plot.add_argument("--steps", type=int, help="the last step that is drawn")
    plot.add_argument("--log", action="store_true", help="a logarithmic value axis")
    plot.add_argument("--units", help=_UNITS)


def _take_call(convert: argparse.ArgumentParser) -> None:
    """The arguments of a call of another library."""
    convert.add_argument(
        "library", choices=list(LIBRARY), metavar="library", help=", ".join(LIBRARY)
    )
    convert.add_argument("text", help='its call, as in "StepLR(optimizer, 30, gamma=0.1)"')
    convert.add_argument("--lr", type=float, help="the rate of the optimizer")
    convert.add_argument(
        "--steps-per-epoch", type=int, metavar="N", help="where it is stepped once an epoch"
    )
    convert.add_argument(
        "--value",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help='what only the program knows: --value args.epochs=90 --value "len(loader)=500"',
    )


def _take_task(find: argparse.ArgumentParser, sweep: argparse.ArgumentParser) -> None:
    """The arguments of commands that train."""
    for each in (find, sweep):
        each.add_argument("task", help="package.module:factory, a function that returns the task")
    find.add_argument("--units", help=_UNITS)
    find.add_argument(
        "--schedule", help="what the real run will follow: a text as of show, or cosine"
    )
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


def _show(given: argparse.Namespace) -> int:
    made = _schedule(given.text, given.units)
    from jaxsched.command._explain import explain

    _say(explain(made))
    return 0


def _plot(given: argparse.Namespace) -> int:
    """The subcommand ``plot``: one picture of several schedules."""
    _check_picture(given.output)
    for text in given.texts:
        _checked(text, _sizes(given.units))
    made = [_schedule(text, given.units) for text in given.texts]
    labels = [" ".join(text.split()) for text in given.texts]
    from jaxsched._plot import plot

    _draw(
        given.output, lambda ax: plot(*made, ax=ax, labels=labels, log=given.log, steps=given.steps)
    )
    return 0


def _names(given: argparse.Namespace) -> int:
    """The subcommand ``names``: the entries with a word; 1 if there are none."""
    word = " ".join(given.words)
    rows = entries(word)
    if not rows:
        print(f"jaxsched: no entry for {unknown(word)}.", file=sys.stderr)
        return 1
    for entry in rows:
        _say(entry.call)
        elsewhere = f"elsewhere: {', '.join(entry.elsewhere)}" if entry.elsewhere else ""
        for line in filter(None, (entry.summary, elsewhere)):
            _say(textwrap.fill(line, 96, initial_indent="    ", subsequent_indent="    "))
    return 0


def _convert(given: argparse.Namespace) -> int:
    """The subcommand ``convert``: the drop-in for a line of another library."""
    # Twice, first without JAX: `found_in` tells a slip at once, and `convert` reads the text again.
    from jaxsched.command._calls import found_in

    values = {}
    for each in given.value:
        name, _, value = each.rpartition("=")  # the last one: the name may be f(x=3)
        values[name] = parse(value, "--value") if value else value
    found_in(given.library, given.text, given.lr, values)
    from jaxsched.command._convert import convert

    made = convert(
        given.library, given.text, given.lr, steps_per_epoch=given.steps_per_epoch, values=values
    )
    _say(made)
    return 0


def _find(given: argparse.Namespace) -> int:
    """The subcommand ``find``: a range test; 1 if it finds no peak."""
    _check_picture(given.output)
    schedule: Any = given.schedule
    if schedule is not None and not schedule.isidentifier():  # a word is a kind, such as "cosine"
        schedule = _schedule(schedule, given.units)
    _see_working_directory()
    from jaxsched.search.range_tests._run import range_test

    result = range_test(
        given.task, given.start, given.end, given.steps, seeds=given.seeds, schedule=schedule
    )
    _say(result)
    _draw(given.output, lambda ax: result.plot(ax=ax))
    return 0 if result.peak is not None else 1


def _sweep(given: argparse.Namespace) -> int:
    """The subcommand ``sweep``; 130 after an interrupt, 1 if all runs diverged."""
    # The sweep may take hours, so these errors come before it: mistakes in the file, and paths
    # where the picture or the result cannot be written.
    config = read_file(given.config)
    _check_picture(given.output)
    _check_file("--save", given.save)
    if given.checkpoint is not None:
        config["checkpoint"] = given.checkpoint
    _see_working_directory()
    from jaxsched.command._sweep import sweep_from_config

    result = sweep_from_config(given.task, config, executor=given.executor)
    if given.save:
        result.save(given.save)
    _say(result.table())
    _say(result.summary())
    _draw(given.output, lambda ax: result.plot(ax=ax))
    if result.partial:
        return 130
    return 1 if (result.diverged >= 0).all() else 0


def _completion(given: argparse.Namespace) -> int:
    _say(completion(given.shell, make_parser()))
    return 0


def _checked(text: str, sizes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The config in a text or a file and its sizes, checked as far as possible without JAX."""
    # A file is a schedule's config itself, or has one in a table `schedule` beside the sizes of the
    # run: the form of a sweep's file, so that a part of one can be shown.
    if text.endswith((".toml", ".json", ".yaml", ".yml")):
        config = read_file(text)
        if "schedule" not in config or {*config} - {"schedule", "run"}:
            return config, sizes
        return config["schedule"], {**_checked_sizes(config.get("run", {})), **sizes}
    tree = parse(text, "the text")
    if not isinstance(tree, (Call, dict)):
        source = source_of(str(tree))
        call = source.call if source else "cosine_decay(0.1, 1000)"
        raise ValueError(f"the text must be a call such as {call}, got {text!r:.60}.")
    # `Units` would load JAX; a place reads only the given sizes of it.
    check(tree, where="the text")
    known = SimpleNamespace(**{"steps": None, "samples": None, **sizes}) if sizes else None
    check_values(tree, Place.of(known))
    return text, sizes


def _schedule(text: str, units: str | None) -> Any:
    config, sizes = _checked(text, _sizes(units))
    from jaxsched.names._config import from_config
    from jaxsched.units import Units

    return from_config(config, units=Units(**sizes) if sizes else None)


def _sizes(units: str | None) -> dict[str, Any]:
    """The arguments of ``js.Units`` in a text."""
    if units is None:
        return {}
    tree = parse(f"Units({units})", "--units")
    if not isinstance(tree, Call) or tree.args or tree.name != "Units":
        raise ValueError(f"--units must be such as batch=32,samples=50k, got {units!r:.60}.")
    return _checked_sizes(tree.kwargs)


def _checked_sizes(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"the table `run` must have arguments of js.Units, got {given!r:.60}.")
    bind("Units", unit_names(), dict.fromkeys(unit_names()), (), given)
    return {name: size(f"Units({name}=...)", x) for name, x in given.items()}


def _check_picture(path: str | None) -> None:
    if path and not path.lower().endswith((".png", ".svg", ".pdf")):
        raise ValueError(f"--output must end in .png, .svg or .pdf, got {path!r}.")
    if path and importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "--output needs matplotlib, which is not installed: pip install jaxsched[plot]"
        )
    _check_file("--output", path)


def _check_file(option: str, path: str | None) -> None:
    """Before the work, not after it."""
    if path and (
        not os.access(Path(path).absolute().parent, os.W_OK)
        or os.path.isdir(path)
        or (os.path.exists(path) and not os.access(path, os.W_OK))
    ):
        raise ValueError(f"{option} must be a file that can be written, got {path!r}.")


def _draw(path: str | None, draw: Callable[[Any], Any]) -> None:
    if path:
        from jaxsched._plot import save_picture

        save_picture(path, draw)


def _see_working_directory() -> None:
    """A task is found from where one is, as by ``python -m``."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
