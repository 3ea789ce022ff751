"""Calls of other libraries, as they stand in a program. It loads no JAX."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxsched._bounds import check_choice, check_number, checked_kind
from jaxsched._text import shorten
from jaxsched._words import nearest
from jaxsched.command._lines import ARITHMETIC, LR, Lines, Placed, told_values
from jaxsched.compat._optimizer import OF_OPTIMIZER
from jaxsched.names._expression import DEPTH, OPERATORS, Call, Word, reading
from jaxsched.names._lookup import LIBRARY, check, check_values
from jaxsched.names._places import Place
from jaxsched.names._sources import Entry, theirs

_WITH_OPTIMIZER = ("megatron", "timm", "torch", "transformers")  # as the first argument
_OWN = ("torch.CyclicLR",)  # they have an argument of their own with the rate's name
_SETS = ("torch.CyclicLR", "torch.OneCycleLR")  # change the optimizer's rate for all beside them
_RATES = ("learning_rate", "initial_learning_rate", "lr_max", "max_lr", "init_value", "lr")
_WD = ("start_wd", "end_wd", "wd_incr_steps", "wd_incr_style")
# Arguments without an effect on the curve, and arguments without an effect at these values.
_PASSED_OVER = {
    *("optimizer", "verbose", "t_in_epochs", "wd", "reset_opt"),
    *_WD,
    *("use_checkpoint_opt_param_scheduler", "override_opt_param_scheduler"),
}
_AS_EVER = {"last_epoch": -1, "initialize": True}
_MOST = 10_000  # values: a name may be given another one again and again

# A call becomes one of ours in three steps. `Lines` reads the text and keeps the value of each
# name. `_Reader` goes from the outermost schedule inwards, drops arguments without an effect on the
# curve, and replaces the optimizer by its rate. `check` and `check_values` report a slip in the
# words of the drop-in. A value that the text does not show is refused, and never guessed: a wrong
# rate would train without an error.


class Found(NamedTuple):
    """The schedule of a text."""

    call: Call  # of a drop-in; its name and arguments are checked
    each_update: bool  # is stepped, as the call says
    factor: float | None  # the rate that it multiplies
    notes: list[str]


def found_in(
    library: str, text: str, lr: float | None, values: Mapping[str, Any] | None = None
) -> Found:
    """The one schedule of a text of a library: a call, or lines with one."""
    known = LIBRARY[check_choice("convert(library=...)", library, LIBRARY)]
    if lr is not None:
        check_number("convert(lr=...)", lr, at_least=0)
    checked_kind("convert(values=...)", values, (Mapping, type(None)), "a mapping")
    if isinstance(text, str) and os.path.isfile(text):
        raise ValueError(
            f"convert(text=...) must be the lines that make a schedule, got the file {text}: give "
            f'them, in a shell by "$(cat {text})".'
        )
    with reading(text, "convert(text=...)"):
        lines = Lines(known, text, "convert(text=...)", told_values(values or {}))
        found = _found_by(_Reader(lines, lr))
    if lines.unused:
        raise ValueError(
            f"convert(values=...) must have names or calls of the text that the schedule asks for, "
            f"got {', '.join(map(repr, sorted(lines.unused)))}."
        )
    return found


def _found_by(reader: _Reader) -> Found:
    """The one schedule of the text, its rate, and notes for the user."""
    # Every rate in the text must equal the given one: also the rate of an optimizer without this
    # schedule, and a name `lr` in the lines. If two rates differ, one of them is wrong.
    lines = reader.lines
    tree = _outermost(reader)
    made = reader.read(tree)
    rates = [x for call, _ in lines.calls.values() for x in lines.rates(call)]
    rates = [x for x in rates if not (isinstance(x, Call) and lines.source(x))]
    if reader.lr is not None:
        named = [x for name, x in lines.known.items() if name.rpartition(".")[2] in LR]
        for said in [*rates, *named]:
            if isinstance(said, (int, float)) or _is_computed(said):
                reader.rate(said)
    try:
        check(made, where="convert(text=...)")
        check_values(made, Place(counts=""))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} It is `{lines.text(tree)}`.") from None
    factor, notes = reader.factor(rates)
    decay = {name: reader.read(x) for name, x in tree.kwargs.items() if name in _WD}
    if {"start_wd", "end_wd"} <= {*decay}:
        given = ", ".join(f"{name}={x!r}" for name, x in decay.items())
        notes.append(f"The weight decay is js.compat.megatron.get_wd({given}).")
    return Found(made, tree.kwargs.get("t_in_epochs") is False, factor, notes)


def _outermost(reader: _Reader) -> Call:
    """The one schedule that is within no other."""
    # Two beside each other: which one is used, and how often each is stepped, the lines do not say.
    lines = reader.lines
    schedules = lines.schedules
    within = {id(x) for call in schedules for x in lines.inner_schedules(call)}
    outer = [x for x in schedules if id(x) not in within]
    if len(outer) > 1:
        raise ValueError(
            "convert(text=...) must have one schedule, got "
            f"{' and '.join(map(lines.text, outer))}: join them as the program does, or convert "
            "each alone."
        )
    if outer:
        inner = [*map(id, lines.inner_schedules(outer[0]))]
        if lines.library == "torch" and len({*inner}) < len(inner):  # each has a state
            raise ValueError(
                "convert(text=...) must have each schedule in one place, got one twice in "
                f"{lines.text(outer[0])}: make one for each place."
            )
        return outer[0]
    # None is known: a slip in a name, which `check` answers with the nearest one.
    calls = [x for x, _ in lines.calls.values() if x.name not in OPERATORS]
    near = [x for x in calls if reader.is_near(x)] or (calls if len(lines.body) == 1 else [])
    for call in near:
        check(Call(f"{lines.library}.{call.bare}"), where="convert(text=...)")
    raise ValueError(
        f"convert(text=...) must be a call of a schedule of {lines.library}, as `jaxsched names "
        f"{lines.library}` lists them, or lines with one, got {lines.shown!r:.60}."
    )


class _Reader:
    """Replaces the names of a program by its library's names, and optimizers by their rates."""

    def __init__(self, lines: Lines, lr: float | None):
        self.lines, self.library, self.lr = lines, lines.library, lr
        self.count = itertools.count()
        self.optimizer: Any = None
        self.asked = False  # for `lr`, by a word that stands for it
        self.words: set[str] = set()  # of these

    def read(self, tree: Any, depth: int = 0) -> Any:
        """A value of the text with the library's names; an unknown computation is refused."""
        if depth > DEPTH or next(self.count) > _MOST:
            raise ValueError(
                f"convert(text=...) must have at most {_MOST} values, nested at most {DEPTH} deep."
            )
        inner = lambda x: self.read(x, depth + 1)
        if isinstance(tree, list):
            return list(map(inner, tree))
        if isinstance(tree, dict):
            return {key: inner(x) for key, x in tree.items()}
        if isinstance(tree, Word):
            return self.word(tree)
        if not isinstance(tree, Call):
            return tree
        if tree.name in ARITHMETIC and not tree.kwargs:
            args = list(map(inner, tree.args))
            if not all(isinstance(x, (int, float)) for x in args):
                raise _not_known(self.lines.text(tree), "computes")
            return _arithmetic(tree, args)
        return self.call(tree, depth, inner)

    def call(self, tree: Call, depth: int, inner: Callable[[Any], Any]) -> Call:
        """The call of the library's schedule, with the rate of its optimizer in its place."""
        if depth and not self.is_near(tree):
            raise _not_known(self.lines.text(tree), "computes")
        source = self.lines.source(tree)
        if depth and source and source.name in _SETS:
            raise ValueError(
                f"convert(text=...) must have no {tree.bare} within another schedule: it sets "
                "the optimizer's rate, which those beside it scale. Convert each alone."
            )
        optimizer, args, given = self.without_optimizer(tree, source)
        known = [x for x in (self.optimizer, optimizer) if isinstance(x, Call)]
        if len(known) == 2 and known[0] is not known[1]:
            raise ValueError(
                "convert(text=...) must have one optimizer, got "
                f"{' and '.join(map(self.lines.text, known))}: convert each alone."
            )
        self.optimizer = optimizer or self.optimizer  # ChainedScheduler uses its parts'
        name = f"{self.library}.{tree.bare}"
        if name == "transformers.get_scheduler":
            self.move_kwargs(args, given, inner)
        made = Call(name, tuple(map(inner, args)), {k: inner(x) for k, x in given.items()})
        return self.with_rate(source, made, self.optimizer) if source else made

    def move_kwargs(self, args: list[Any], given: dict[str, Any], inner: Any) -> None:
        """Moves two arguments of Diffusers' `get_scheduler` to their place in Transformers'."""
        # Diffusers hands each to one of its schedules and ignores it for the others.
        more = {k: given.pop(k) for k in ("num_cycles", "power") if k in given}
        kind = inner(given["name"] if "name" in given else next(iter(args), None))
        own = {"cosine_with_restarts": "num_cycles", "polynomial": "power"}.get(str(kind))
        if own in more:
            given["scheduler_specific_kwargs"] = {own: more[own]}

    def word(self, word: Any) -> Any:
        """The value of a name that only the program knows: the rate; others are refused."""
        if isinstance(word, Placed) and word.startswith("lambda"):
            known = [n for n, s in theirs(self.library).items() if "Function" in s.kinds.values()]
            raise ValueError(
                f"convert(text=...) must have no functions, got {shorten(word)}: in Python a "
                f"drop-in takes them, such as js.compat.{[*known, 'torch.LambdaLR'][0]}."
            )
        head, _, last = word.rpartition(".")
        if head.endswith("SchedulerType"):
            return last.lower()
        if _is_rate(word) and self.lr is not None:
            self.asked = True
            self.words.add(word)
            if len(self.words) > 1:
                raise ValueError(
                    "convert(lr=...) must stand for one name of the text, got "
                    f"{' and '.join(sorted(self.words))}: give the other one with values=..."
                )
            return self.lr
        raise _not_known(word, "knows")

    def is_near(self, call: Call) -> bool:
        """Whether a call is of a schedule of the library, or of a name that looks like one."""
        known = [each.rpartition(".")[2] for each in theirs(self.library)]
        near = not call.name.endswith(".step") and nearest(call.bare, known)
        return bool(near) or self.lines.source(call) is not None

    def without_optimizer(
        self, call: Call, source: Entry | None
    ) -> tuple[Any, list[Any], dict[str, Any]]:
        """The optimizer of a call, and the arguments that affect the curve."""
        # The optimizer is the first argument, in `get_scheduler` the second. An argument there
        # counts as the optimizer if it is a plain name, or a call of anything but a schedule:
        # `StepLR(30)`, without an optimizer, has a number there.
        passed = _PASSED_OVER - {*(source.kinds if source else ())}
        kwargs = {
            k: x for k, x in call.kwargs.items() if k not in passed and _AS_EVER.get(k, ...) != x
        }
        args, optim = list(call.args), call.kwargs.get("optimizer")
        place = 1 if call.bare == "get_scheduler" and "name" not in kwargs else 0
        for x in args[place : place + 1] if self.library in _WITH_OPTIMIZER and not optim else ():
            a_call = isinstance(x, Call) and x.name not in ARITHMETIC and not self.is_near(x)
            named = isinstance(x, Word) and x.partition(" (line")[0].replace(".", "").isidentifier()
            if a_call or (named and "SchedulerType" not in x):
                optim = args.pop(place)
        return optim, args, kwargs

    def rate_of(self, optimizer: Any) -> float | None:
        """The rate in the call of an optimizer, or else ``lr``."""
        for x in optimizer.args if isinstance(optimizer, Call) else [optimizer]:
            if isinstance(x, Placed) and x.startswith("*"):
                raise _not_known(x, "knows")
        if isinstance(optimizer, Placed) and self.lr is None:
            raise ValueError(f"convert(lr=...) must be given, the rate of {optimizer}.")
        if not isinstance(optimizer, Call):
            return self.lr
        said = self.lines.rates(optimizer)
        if len(said) > 1:
            raise ValueError(
                f"convert(text=...) must have one rate in {optimizer.name}(...), got two."
            )
        return self.rate(said[0]) if said else self.lr

    def rate(self, said: Any) -> Any:
        """The rate in the text; ``lr`` must not contradict it."""
        # Only the program knows the value of a name other than `lr`; the given `lr` may be its
        # value. `asked` stays as it was: a comparison is not a use.
        if self.lr is not None and _is_name(said) and not _is_rate(said):
            return self.lr
        before, self.asked = self.asked, False
        rate = self.read(said, 1)
        if self.lr is not None and not self.asked and rate != self.lr:
            raise ValueError(
                f"convert(lr=...) must be as in the text, {rate!r}, or left out, got {self.lr!r}."
            )
        self.asked = before or self.asked
        return rate

    def with_rate(self, source: Entry, call: Call, optimizer: Any) -> Call:
        """The call with the optimizer's rate among its arguments, if its schedule scales one."""
        # The drop-in has the same positional arguments, but with the rate in front. So the
        # positional ones get their names, and the rate is added by name.
        scaled = OF_OPTIMIZER.get(source.name.partition(".")[0], "")
        if scaled not in source.kinds or source.name in _OWN:
            scaled = ""
        places = [name for name in source.kinds if name != scaled]
        given = dict(zip(places, call.args, strict=False))
        if len(call.args) > len(places) or given.keys() & call.kwargs:
            args = (*[0.1] * bool(scaled), *call.args)
            return Call(call.name, args, call.kwargs)  # `check` refuses it
        lr = self.rate_of(optimizer) if scaled else self.lr
        rate = scaled or next((n for n in _RATES if n in source.needed), "")
        if rate and lr is not None and rate not in {**given, **call.kwargs}:
            given, self.asked = {rate: lr, **given}, True
        elif rate in source.needed and rate not in {**given, **call.kwargs}:
            raise ValueError(
                "convert(lr=...) must be given, the rate of the optimizer that "
                f"{source.name} scales (--lr of the command)."
                if scaled
                else f"convert(lr=...) must be given, or {rate}= of {source.name} in the text "
                "(--lr of the command)."
            )
        return Call(call.name, (), {**given, **call.kwargs})

    def factor(self, said: list[Any]) -> tuple[float | None, list[str]]:
        """The rate that a schedule multiplies as a factor, and notes about it."""
        # Composer's are factors; everybody else's are rates, or scale one by an argument.
        if self.library != "composer":
            unused = self.lr is not None and not self.asked
            return None, [f"lr={self.lr!r} has no effect: the schedule has its own."] * unused
        rates = {self.rate(x) for x in said}
        if len(rates) < 2:
            rate = next(iter(rates), self.lr)
            return rate, ["It is a factor of the optimizer's rate: give lr."] * (rate is None)
        raise ValueError(f"convert(text=...) must have one rate, got {sorted(rates)}.")


def _is_computed(x: Any) -> bool:
    return isinstance(x, Call) and x.name in ARITHMETIC


def _arithmetic(tree: Call, args: list[Any]) -> Any:
    """The number of an operator between numbers."""
    try:
        return ARITHMETIC[tree.name](*args)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ValueError(f"convert(text=...) must be arithmetic that works, got {error}.") from None


def _is_name(x: Any) -> bool:
    return isinstance(x, Word) and not isinstance(x, Placed)


def _is_rate(x: Any) -> bool:
    return _is_name(x) and x.rpartition(".")[2] in LR


def _not_known(what: str, verb: str) -> ValueError:
    return ValueError(
        f"convert(text=...) must have one value in place of {shorten(what)}, which only the "
        f"program {verb}: write it there, or before, as in `epochs = 90; StepLR(o, epochs)`, or "
        'give it, as in values={"args.epochs": 90} (--value "args.epochs=90").'
    )
