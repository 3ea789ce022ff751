"""Calls of other libraries, as they stand in a program. It loads no JAX."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxsched._bounds import check_bounds, check_choice
from jaxsched._text import describe, shorten
from jaxsched._words import nearest
from jaxsched.names._expression import DEPTH, OPERATORS, Call, Word, parse
from jaxsched.names._lookup import LIBRARY, check, check_values, source_of, unknown
from jaxsched.names._places import Place
from jaxsched.names._sources import Entry, theirs

_WITH_OPTIMIZER = ("megatron", "timm", "torch", "transformers")  # is the first argument
# A drop-in has the optimizer's rate as an argument, where its peer has the optimizer.
_OF_OPTIMIZER = {"torch": "base_lr", "timm": "base_lr", "keras": "base_lr", "transformers": "lr"}
_OWN = ("torch.CyclicLR",)  # whose rate of that name is the peer's own argument
_RATES = ("learning_rate", "initial_learning_rate", "lr_max", "max_lr", "init_value", "lr")
_WD = ("start_wd", "end_wd", "wd_incr_steps", "wd_incr_style")
# What says nothing of the curve.
_PASSED_OVER = {
    *("optimizer", "verbose", "initialize", "t_in_epochs", "cbs", "wd", "reset_opt"),
    *_WD,
    *("use_checkpoint_opt_param_scheduler", "override_opt_param_scheduler"),
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{**OPERATORS, "**": math.pow, "int": int, "float": float, "round": round},
    **{"min": min, "max": max, "math.ceil": math.ceil, "math.floor": math.floor},
}
_LR = ("lr", "learning_rate")
_INSIDE = ">"  # another schedule
_ALIKE = re.compile("LR$|[Ww]armup|[Ss]chedule$|_schedule_")  # names of schedules, of any library
# In which a schedule may stand.
_OPTIMIZERS = {
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "adan", "chain"),
    *("ftrl", "lamb", "lars", "lion", "muon", "nadam", "nadamw", "novograd", "radam", "rmsprop"),
    *("scale_by_learning_rate", "scale_by_schedule", "sgd", "sm3", "yogi"),
}
_MOST = 10_000  # values: a name may be given another one again and again


class Found(NamedTuple):
    """The schedule of a program."""

    call: Call  # of a drop-in, whose name and arguments are known
    interval: str  # "step" or "epoch" where it is said what it is stepped by
    factor: float | None  # the rate, of which it is a factor
    notes: list[str]


def found_in(library: str, text: str, lr: float | None) -> Found:
    """The schedule of a program of a library."""
    known = LIBRARY.get(library)
    if known is None:
        raise ValueError(
            f"convert(library=...) must be one of {', '.join(LIBRARY)}, got {library!r}."
        )
    if lr is not None:
        check_bounds("convert(lr=...)", lr, lr, at_least=0)
    values, named = parse(text, "convert(text=...)", program=True)
    calls, found, around = _schedules(known, values)
    reader = _Reader(known, lr)
    for name, value in named.items():
        if name.rpartition(".")[2] in _LR and (isinstance(value, (int, float)) or _computes(value)):
            reader.rate(value)
    names = [tree.name for tree, _ in found]
    alike = [
        tree.name
        for tree in calls
        if _ALIKE.search(tree.name)
        and not source_of(f"{known}.{_bare(tree)}")
        and _bare(tree).lower() not in _OPTIMIZERS
    ]
    if len(found) > 1 or (found and alike):
        shown = " and ".join([*names, *alike])
        raise ValueError(
            f"convert(text=...) must have one schedule, got {shown}: join them as the program "
            "does, or convert each alone."
        )
    near = [(tree, "") for tree in calls if reader.is_near(tree.name)]
    tree, interval = [*found, *near, *((value, "") for value in values[-1:]), (None, "")][0]
    if not isinstance(tree, Call) or tree.name in OPERATORS or around in OPERATORS:
        raise ValueError(f"convert(text=...) must be a call such as StepLR(30), got {text!r:.60}.")
    if around:
        raise ValueError(
            f"convert(text=...) must have nothing around {tree.name}(...) but its optimizer, got "
            f"{unknown(around)}."
        )
    if not found:  # raises by the name
        check(Call(f"{library}.{_bare(tree)}"), where="convert(text=...)")
    made = reader.read(tree)
    check(made, where="convert(text=...)")
    check_values(made, Place(counts=""))
    if tree.kwargs.get("t_in_epochs") is False:
        interval = "step"
    factor, notes = reader.factor(tree, calls)
    decay = {name: reader.read(x) for name, x in tree.kwargs.items() if name in _WD}
    if {"start_wd", "end_wd"} <= {*decay}:
        given = ", ".join(f"{name}={x!r}" for name, x in decay.items())
        notes.append(f"The weight decay is js.compat.megatron.get_wd({given}).")
    return Found(made, interval, factor, notes)


def _schedules(library: str, values: list[Any]) -> tuple[list[Call], list[tuple[Call, str]], str]:
    """All calls; the schedules that stand in no other, and their intervals; what is around one."""
    calls: list[Call] = []
    found: dict[int, tuple[Call, str]] = {}
    inside, outside, seen = set(), "", set()
    todo: list[tuple[Any, str, str]] = [(value, "", "") for value in reversed(values)]
    while todo:
        tree, around, interval = todo.pop()
        if (id(tree), around, interval) in seen:
            continue
        seen.add((id(tree), around, interval))
        parts: list[Any] = []
        if isinstance(tree, list):
            parts = tree
            if parts and all(isinstance(x, list) for x in parts):  # Lightning's [optimizers], [...]
                interval = "epoch"
        elif isinstance(tree, dict):
            parts = [*tree.values()]
            if {"scheduler", "lr_scheduler"} & {*tree}:  # Lightning's, which steps once an epoch
                interval = _interval(tree)
        elif isinstance(tree, Call):
            calls.append(tree)
            parts = [*tree.args, *tree.kwargs.values()]
            if source_of(f"{library}.{_bare(tree)}"):
                if around == _INSIDE:
                    inside.add(id(tree))
                else:
                    found[id(tree)] = tree, interval or found.get(id(tree), ("", ""))[1]
                    outside = outside or around
                around = _INSIDE
            elif around != _INSIDE:
                around = "" if _bare(tree).lower() in _OPTIMIZERS else tree.name
        todo += [(part, around, interval) for part in reversed(parts)]
    return calls, [one for key, one in found.items() if key not in inside], outside


def _interval(tree: dict[str, Any]) -> str:
    interval: str = tree.get("interval", "epoch")
    check_choice("convert(text=...), interval,", interval, ("step", "epoch"))
    if tree.get("frequency", 1) != 1:
        raise ValueError(
            f"convert(text=...) must have the frequency 1, got {describe(tree['frequency'])}: "
            "js.Epochwise(schedule, updates) makes a step of several updates."
        )
    return interval


def _bare(call: Call) -> str:
    return call.name.rpartition(".")[2]


def _computes(tree: Any) -> bool:
    return isinstance(tree, Call) and tree.name in _ARITHMETIC


class _Reader:
    """Makes the names of a program those of its library, and rates of its optimizers."""

    def __init__(self, library: str, lr: float | None):
        self.library, self.lr, self.count = library, lr, itertools.count()
        self.asked = False  # for `lr`, by a word that stands for it

    def read(self, tree: Any, depth: int = 0) -> Any:
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
        if tree.name in _ARITHMETIC and not tree.kwargs:
            return _arithmetic(tree.name, list(map(inner, tree.args)))
        if depth and not self.is_near(tree.name):
            raise _unknown(f"{tree.name}(...)", "computes")
        name = f"{self.library}.{tree.name.rpartition('.')[2]}"
        source = source_of(name)
        optimizer, args, given = self.without_optimizer(tree, source)
        made = Call(name, tuple(map(inner, args)), {k: inner(x) for k, x in given.items()})
        return self.with_rate(source, made, optimizer) if source else made

    def word(self, word: Word) -> Any:
        if word.startswith("lambda"):
            raise ValueError(
                "convert(text=...) must have no functions: in Python a drop-in takes them, such as "
                "js.compat.torch.LambdaLR(0.1, lambda epoch: 0.95**epoch)."
            )
        head, _, last = (
            word.rpartition(".") if word.replace(".", "").isidentifier() else ("", "", "")
        )
        if head.endswith("SchedulerType"):
            return last.lower()
        if last in _LR and self.lr is not None:
            self.asked = True
            return self.lr
        raise _unknown(word, "knows")

    def is_near(self, name: str) -> bool:
        bare = name.rpartition(".")[2]
        known = [each.rpartition(".")[2] for each in theirs(self.library)]
        return source_of(f"{self.library}.{bare}") is not None or bool(nearest(bare, known))

    def without_optimizer(
        self, call: Call, source: Entry | None
    ) -> tuple[Any, list[Any], dict[str, Any]]:
        """The optimizer of a call, and the arguments that say something of the curve."""
        passed = _PASSED_OVER - {*(source.kinds if source else ())}
        kwargs = {k: x for k, x in call.kwargs.items() if k not in passed}
        if kwargs.get("last_epoch") == -1:
            del kwargs["last_epoch"]
        args, found = list(call.args), call.kwargs.get("optimizer")
        for i, x in enumerate(args if self.library in _WITH_OPTIMIZER and found is None else ()):
            a_call = isinstance(x, Call) and x.name not in _ARITHMETIC and not self.is_near(x.name)
            if a_call or (isinstance(x, Word) and "SchedulerType" not in x):
                found = args.pop(i)
                break
        return found, args, kwargs

    def rate_of(self, optimizer: Any) -> float | None:
        if not isinstance(optimizer, Call):
            return self.lr
        groups = [x for x in (*optimizer.args, *optimizer.kwargs.values()) if isinstance(x, list)]
        if any(isinstance(x, dict) and "lr" in x for group in groups for x in group):
            raise ValueError(
                "convert(text=...) must have one rate, got groups of parameters with their own in "
                f"{optimizer.name}(...): convert without them, for each rate (lr=...)."
            )
        second = optimizer.args[1:2] if _bare(optimizer).lower() in _OPTIMIZERS else ()
        said = optimizer.kwargs.get("lr", next(iter(second), None))
        return self.lr if said is None else self.rate(said)

    def rate(self, said: Any) -> Any:
        """What the text says of a rate, which ``lr`` must not contradict."""
        if self.lr is not None and isinstance(said, Word):
            return self.lr
        asked, self.asked = self.asked, False
        found = self.read(said)
        if self.lr is not None and not self.asked and found != self.lr:
            raise ValueError(
                f"convert(lr=...) must be as in the text, {found!r}, or left out, got {self.lr!r}."
            )
        self.asked = asked or self.asked
        return found

    def with_rate(self, source: Entry, call: Call, optimizer: Any) -> Call:
        scaled = _OF_OPTIMIZER.get(source.name.partition(".")[0], "")
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
        elif scaled in source.needed and scaled not in call.kwargs:
            raise ValueError(
                "convert(lr=...) must be given, the rate of the optimizer that "
                f"{source.name} scales (--lr of the command)."
            )
        return Call(call.name, (), {**given, **call.kwargs})

    def factor(self, tree: Call, calls: list[Call]) -> tuple[float | None, list[str]]:
        """The rate that a schedule is a factor of; and what to say of it."""
        if self.library != "composer":
            unused = self.lr is not None and not self.asked
            return None, [f"lr={self.lr!r} has no effect: the schedule has its own."] * unused
        rates: set[Any] = {self.rate_of(x) for x in calls if x is not tree and "lr" in x.kwargs}
        if len(rates) < 2:
            rate = next(iter(rates), self.lr)
            return rate, ["It is a factor of the optimizer's rate: give lr."] * (rate is None)
        raise ValueError(f"convert(text=...) must have one rate, got {sorted(rates)}.")


def _unknown(what: str, verb: str) -> ValueError:
    return ValueError(
        f"convert(text=...) must have a value in place of {shorten(what)}, which only the program "
        f"{verb}: write it there, or before, as in `epochs = 90; StepLR(optimizer, epochs)`."
    )


def _arithmetic(name: str, args: list[Any]) -> Any:
    """The number of an operator between numbers."""
    if name not in _ARITHMETIC or not all(isinstance(x, (int, float)) for x in args):
        return Call(name, tuple(args))
    try:
        return _ARITHMETIC[name](*args)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ValueError(f"convert(text=...) must be arithmetic that works, got {error}.") from None
