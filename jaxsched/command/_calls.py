"""Calls of other libraries, as they stand in a program. It loads no JAX."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxsched._bounds import check_choice, check_number
from jaxsched._text import describe, shorten
from jaxsched._words import nearest
from jaxsched.command._nodes import told_values
from jaxsched.command._program import Program
from jaxsched.command._steps import Steps
from jaxsched.command._uses import OPTIMIZERS, Uses
from jaxsched.command._values import ARITHMETIC, Placed, Taken, arithmetic, computes
from jaxsched.compat._optimizer import OF_OPTIMIZER
from jaxsched.names._expression import DEPTH, OPERATORS, Call, Word, reading
from jaxsched.names._lookup import LIBRARY, check, check_values, source_of
from jaxsched.names._places import Place
from jaxsched.names._sources import Entry, theirs

_WITH_OPTIMIZER = ("megatron", "timm", "torch", "transformers")  # is the first argument
_OWN = ("torch.CyclicLR",)  # whose rate of that name is the peer's own argument
_SETS = ("torch.CyclicLR", "torch.OneCycleLR")  # the optimizer's rate, for all that are beside it
_RATES = ("learning_rate", "initial_learning_rate", "lr_max", "max_lr", "init_value", "lr")
_WD = ("start_wd", "end_wd", "wd_incr_steps", "wd_incr_style")
# What says nothing of the curve, and what does not with these values.
_PASSED_OVER = {
    *("optimizer", "verbose", "t_in_epochs", "wd", "reset_opt"),
    *_WD,
    *("use_checkpoint_opt_param_scheduler", "override_opt_param_scheduler"),
}
_AS_EVER = {"last_epoch": -1, "initialize": True}
_LR = ("lr", "learning_rate")
_OF_GROUPS = {"initial_lr", "lr", "lr_mult", "lr_scale", "max_lr", "min_lr"}  # rates of their own
_RATE_FIRST = ("keras", "optax")
_MOST = 10_000  # values: a name may be given another one again and again


class Found(NamedTuple):
    """The schedule of a program."""

    call: Call  # of a drop-in, whose name and arguments are known
    interval: str  # "step" or "epoch" where it is said what it is stepped by
    factor: float | None  # the rate, of which it is a factor
    notes: list[str]


def found_in(
    library: str, text: str, lr: float | None, values: Mapping[str, Any] | None = None
) -> Found:
    """The schedule of a program of a library."""
    known = LIBRARY.get(library) if isinstance(library, str) else None
    if known is None:
        raise ValueError(
            f"convert(library=...) must be one of {', '.join(LIBRARY)}, got {library!r}."
        )
    if lr is not None:
        check_number("convert(lr=...)", lr, at_least=0)
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"convert(values=...) must be a mapping, got {describe(values)}.")
    with reading(text, "convert(text=...)", 500_000):
        values_of = told_values(values or {})
        program = Program(text, "convert(text=...)", values_of)
        schedule = _found(program, _Reader(known, lr, program), text)
    if program.unused:
        raise ValueError(
            f"convert(values=...) must have names or calls of the text that the schedule asks for, "
            f"got {', '.join(map(repr, sorted(program.unused)))}."
        )
    return schedule


def _found(program: Program, reader: _Reader, text: str) -> Found:
    kinds = (ast.Call, ast.Dict, ast.List, ast.Tuple)
    nodes = [x for x in ast.walk(program.tree) if isinstance(x, kinds)]
    nodes.sort(key=lambda x: (x.lineno, x.col_offset))
    values = [*{id(x): x for x in map(program.value, nodes)}.values()]
    calls = [x for x in values if isinstance(x, Call)]
    schedules = [x for x in calls if reader.source(x)]
    within = {key for x in schedules for key in reader.parts(x) if key != id(x)}
    outer = [x for x in schedules if id(x) not in within]
    if len(outer) > 1:
        given = " and ".join(map(program.text, outer))
        raise ValueError(
            f"convert(text=...) must have one schedule, got {given}: join them as the program "
            "does, or convert each alone."
        )
    lists = {id(y) for x in calls for y in x.args[:1] if isinstance(y, list)}
    for x in nodes:
        value, keys = program.value(x), [getattr(y, "value", y) for y in getattr(x, "keys", ())]
        keys += [*value] if isinstance(value, dict) else []
        made = id(value) in lists and any(getattr(y, "name", "") == "dict" for y in value)
        if made or ("params" in keys and {*_OF_GROUPS, None} & {*keys}):
            raise ValueError(
                "convert(text=...) must have one rate, got groups of parameters with their own in "
                f"line {x.lineno}: convert without them, for each rate (lr=...)."
            )
    near = [x for x in calls if not outer and reader.is_near(x)]
    tree = [*outer, *near, *(calls[:1] if len(program.tree.body) == 1 else ()), None][0]
    if not isinstance(tree, Call) or tree.name in OPERATORS:
        what = f"none in {1 + lines} lines" if (lines := text.count("\n")) else f"{text!r:.60}"
        raise ValueError(
            "convert(text=...) must be a call such as StepLR(30), or a program with one of "
            f"{reader.library}, got {what}."
        )
    if not outer:  # raises by the name
        check(Call(f"{reader.library}.{tree.bare}"), where="convert(text=...)")
    made = reader.read(tree)
    own = reader.parts(tree)
    stepped = [x for x in own.values() if isinstance(x, Call) and reader.source(x)]
    own |= {id(x): x for node, x in program.spread if id(program.value(node)) in own}
    rate_first = reader.library in _RATE_FIRST
    sources = [x for x in map(reader.source, stepped) if x and not rate_first]
    names = {k for x in sources for k in x.kinds}
    uses = Uses(program, own, stepped, reader.containers, rate_first, names)
    steps = Steps(uses)
    rates = [x for call in calls if not reader.source(call) for x in reader.rates(call)]
    for x in rates if rate_first else ():
        function = isinstance(x, Word) and (x.startswith("lambda") or not program.is_unknown(x))
        if function and not isinstance(x, Taken):
            raise ValueError(
                f"convert(text=...) must have a schedule as the rate, got {shorten(x)}: convert "
                "what it calls alone, and write in Python what the function makes of it."
            )
    named = [x for x in ast.walk(program.tree) if getattr(x, "id", getattr(x, "attr", "")) in _LR]
    for said in [*rates, *map(program.value, named)] if reader.lr is not None else ():
        if isinstance(said, (int, float)) or computes(said):
            reader.rate(said)
    try:
        check(made, where="convert(text=...)")
        check_values(made, Place(counts=""))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} It is `{program.text(tree)}`.") from None
    told = reader.interval(values, tree)
    by_hand = steps.interval or program.nodes[".automatic_optimization"]
    if told and uses.steps and not by_hand:  # beside what Lightning does
        uses.refuse(uses.steps[0])
    interval = "step" if tree.kwargs.get("t_in_epochs") is False else steps.interval or told
    factor, notes = reader.factor(rates)
    decay = {name: reader.read(x) for name, x in tree.kwargs.items() if name in _WD}
    if {"start_wd", "end_wd"} <= {*decay}:
        given = ", ".join(f"{name}={x!r}" for name, x in decay.items())
        notes.append(f"The weight decay is js.compat.megatron.get_wd({given}).")
    if reader.defaults:
        given = ", ".join(f"{name} = {x!r}" for name, x in reader.defaults.items())
        notes.append(f"Taken from the defaults of the text: {given} (values= gives others).")
    notes += steps.uses.notes
    return Found(made, interval, factor, notes)


def _inner(x: Any) -> list[Any]:
    if isinstance(x, Call):
        return [*x.args, *x.kwargs.values()]
    return [*x.values()] if isinstance(x, dict) else x if isinstance(x, list) else []


class _Reader:
    """Makes the names of a program those of its library, and rates of its optimizers."""

    def __init__(self, library: str, lr: float | None, program: Program):
        self.library, self.lr, self.program = library, lr, program
        self.count = itertools.count()
        self.optimizer: Any = None
        self.asked = False  # for `lr`, by a word that stands for it
        self.containers: list[Any] = []  # literal, of which a value was taken
        self.defaults: dict[str, Any] = {}  # of the program, which were taken

    def source(self, call: Call) -> Entry | None:
        name = f"{self.library}.{call.bare}"  # timm.step is one, but scheduler.step is not
        return None if call.name.endswith(".step") and call.name != name else source_of(name)

    def parts(self, schedule: Call) -> dict[int, Any]:
        """What a schedule consists of, its optimizer and their lists, by their ids."""
        parts: dict[int, Any] = {}
        todo: list[Any] = [schedule]
        while todo:
            x = todo.pop()
            name = isinstance(x, Word) and not isinstance(x, Taken) and not _is_rate(x)
            whole = isinstance(x, (dict, list)) or (isinstance(x, Call) and not computes(x))
            if (name or whole) and id(x) not in parts:
                parts[id(x)] = x
                for y in _inner(x):  # of an optimizer, not the parameters
                    lists = not isinstance(x, Call) or isinstance(y, (dict, list))
                    known = isinstance(y, Call) and y.bare.lower() in OPTIMIZERS
                    if lists or known or self.source(x) or (isinstance(y, Call) and self.source(y)):
                        todo.append(y)
        return parts

    def interval(self, values: list[Any], tree: Call) -> str:
        """What Lightning steps a schedule by, in what its ``configure_optimizers`` returns."""
        if self.library in _RATE_FIRST:
            return ""
        for x in sorted(values, key=lambda x: isinstance(x, list)):  # a dict in a list tells it
            if isinstance(x, dict) and x.get("scheduler", x.get("lr_scheduler")) is tree:
                interval: Any = self.read(x.get("interval", "epoch"))
                check_choice("convert(text=...), interval,", interval, ("step", "epoch"))
                if (each := self.read(x.get("frequency", 1))) != 1:
                    raise ValueError(
                        f"convert(text=...) must have the frequency 1, got {describe(each)}: "
                        "js.Epochwise(schedule, updates) makes a step of several updates."
                    )
                return str(interval)
            if isinstance(x, list) and any(z is tree for y in x for z in _inner(y)):
                return "epoch"
        return ""

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
        if tree.name in ARITHMETIC and not tree.kwargs:
            args = list(map(inner, tree.args))
            if not all(isinstance(x, (int, float)) for x in args):
                raise _unknown(self.program.text(tree), "computes")
            return arithmetic(tree, args)
        if depth and not self.is_near(tree):
            raise _unknown(self.program.text(tree), "computes")
        source = self.source(tree)
        if depth and source and source.name in _SETS:
            raise ValueError(
                f"convert(text=...) must have no {tree.bare} within another schedule: it sets "
                "the optimizer's rate, which those beside it scale. Convert each alone."
            )
        optimizer, args, given = self.without_optimizer(tree, source)
        self.optimizer = optimizer or self.optimizer  # ChainedScheduler has that of its parts
        name = f"{self.library}.{tree.bare}"
        if name == "transformers.get_scheduler":  # that of Diffusers has two arguments more
            more = {k: given.pop(k) for k in ("num_cycles", "power") if k in given}
            kind = inner([given.get("name"), *args][bool(args and "name" not in given)])
            own = {"cosine_with_restarts": "num_cycles", "polynomial": "power"}.get(str(kind))
            if own in more:
                given["scheduler_specific_kwargs"] = {own: more[own]}
        made = Call(name, tuple(map(inner, args)), {k: inner(x) for k, x in given.items()})
        missing = [x for x in args if isinstance(x, Taken) and x.value is None]
        named = [x for k, x in given.items() if source and k in source.needed]
        missing += [x for x in named if isinstance(x, Taken) and x.value is None]
        if source and missing:
            raise _unknown(missing[0], "knows")
        return self.with_rate(source, made, self.optimizer) if source else made

    def word(self, word: Any) -> Any:
        if isinstance(word, Taken) and word.container is not None:
            self.containers.append(word.container)
            return word.value
        if word.startswith("lambda") or self.program.is_function(word):
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
            return self.lr
        if isinstance(word, Taken):
            return self.defaults.setdefault(str(word), self.read(word.value))
        raise _unknown(word, "knows")

    def is_near(self, call: Call) -> bool:
        known = [each.rpartition(".")[2] for each in theirs(self.library)]
        near = not call.name.endswith(".step") and nearest(call.bare, known)
        return bool(near) or self.source(call) is not None

    def without_optimizer(
        self, call: Call, source: Entry | None
    ) -> tuple[Any, list[Any], dict[str, Any]]:
        """The optimizer of a call, and the arguments that say something of the curve."""
        passed = _PASSED_OVER - {*(source.kinds if source else ())}
        kwargs = {
            k: x for k, x in call.kwargs.items() if k not in passed and _AS_EVER.get(k, ...) != x
        }
        args, optim = list(call.args), call.kwargs.get("optimizer")
        place = 1 if call.bare == "get_scheduler" and "name" not in kwargs else 0
        for x in args[place : place + 1] if self.library in _WITH_OPTIMIZER and not optim else ():
            a_call = isinstance(x, Call) and x.name not in ARITHMETIC and not self.is_near(x)
            named = isinstance(x, Word) and x.partition(" (line")[0].replace(".", "").isidentifier()
            if a_call or (named and not isinstance(x, Taken) and "SchedulerType" not in x):
                optim = args.pop(place)
        return optim, args, kwargs

    def rates(self, call: Call) -> list[Any]:
        """What an optimizer says of its rate."""
        place = 0 if self.library in _RATE_FIRST else 1
        known = call.bare.lower() in OPTIMIZERS
        given = [call.kwargs[name] for name in _LR if call.kwargs.get(name) is not None]
        return [*(call.args[place : place + 1] if known else ()), *given]

    def rate_of(self, optimizer: Any) -> float | None:
        for x in optimizer.args if isinstance(optimizer, Call) else [optimizer]:
            if isinstance(x, Placed) and x.startswith("*"):
                raise _unknown(x, "knows")
        if isinstance(optimizer, Placed) and self.lr is None:
            raise ValueError(f"convert(lr=...) must be given, the rate of {optimizer}.")
        if not isinstance(optimizer, Call):
            return self.lr
        said = self.rates(optimizer)
        within = [
            x for x in self.parts(optimizer).values() if isinstance(x, Call) and self.source(x)
        ]
        if within or len(said) > 1:
            raise ValueError(
                f"convert(text=...) must have one rate in {optimizer.name}(...), got "
                f"{f'{within[0].name}(...)' if within else 'two'}."
            )
        return self.rate(said[0]) if said else self.lr

    def rate(self, said: Any) -> Any:
        """What the text says of a rate, which ``lr`` must not contradict."""
        taken = isinstance(said, Taken) and said.container is not None
        if self.lr is not None and _is_name(said) and not taken:
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
        """The rate that a schedule is a factor of; and what to say of it."""
        if self.library != "composer":
            unused = self.lr is not None and not self.asked
            return None, [f"lr={self.lr!r} has no effect: the schedule has its own."] * unused
        rates = {self.rate(x) for x in said}
        if len(rates) < 2:
            rate = next(iter(rates), self.lr)
            return rate, ["It is a factor of the optimizer's rate: give lr."] * (rate is None)
        raise ValueError(f"convert(text=...) must have one rate, got {sorted(rates)}.")


def _is_name(x: Any) -> bool:
    return isinstance(x, Word) and not isinstance(x, Placed)


def _is_rate(x: Any) -> bool:
    return _is_name(x) and x.rpartition(".")[2] in _LR


def _unknown(what: str, verb: str) -> ValueError:
    return ValueError(
        f"convert(text=...) must have one value in place of {shorten(what)}, which only the "
        f"program {verb}: write it there, or before, as in `epochs = 90; StepLR(o, epochs)`, or "
        'give it, as in values={"args.epochs": 90} (--value "args.epochs=90").'
    )
