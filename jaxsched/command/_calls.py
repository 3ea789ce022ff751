"""Calls of other libraries, as they stand in a program. It loads no JAX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from jaxsched._text import shorten
from jaxsched._words import nearest
from jaxsched.names._expression import DEPTH, OPERATORS, Call, Word, parse
from jaxsched.names._lookup import LIBRARY, check, check_values, source_of
from jaxsched.names._sources import Entry, theirs

_WITH_OPTIMIZER = ("megatron", "timm", "torch", "transformers")  # is the first argument
# A drop-in has the optimizer's rate as an argument, where its peer has the optimizer.
_OF_OPTIMIZER = {"torch": "base_lr", "timm": "base_lr", "keras": "base_lr", "transformers": "lr"}
_OWN = ("torch.CyclicLR",)  # whose rate of that name is the peer's own argument
_RATES = ("learning_rate", "initial_learning_rate", "lr_max", "max_lr", "init_value", "lr")
# What says nothing of the curve.
_PASSED_OVER = {
    *("optimizer", "verbose", "initialize", "t_in_epochs", "cbs", "wd", "reset_opt"),
    *("start_wd", "end_wd", "wd_incr_steps", "wd_incr_style"),
    *("use_checkpoint_opt_param_scheduler", "override_opt_param_scheduler"),
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{**OPERATORS, "**": math.pow, "int": int, "float": float, "round": round},
    **{"min": min, "max": max},
}
_MOST = 10_000  # values: a name may be given another one again and again


def call_of(library: str, text: str, lr: float | None) -> tuple[Call, str]:
    """The call of a drop-in, whose name and arguments are known, and what it is stepped by.

    That is "step" or "epoch", where a dict of Lightning says it.
    """
    known = LIBRARY.get(library)
    if known is None:
        raise ValueError(
            f"convert(library=...) must be one of {', '.join(LIBRARY)}, got {library!r}."
        )
    tree, interval = _scheduler(parse(text, "convert(text=...)", program=True))
    reader = _Reader(known, lr)
    if isinstance(tree, Call) and known in ("keras", "optax") and not reader.is_near(tree.name):
        tree = tree.kwargs.get(
            "learning_rate", (*tree.args, tree)[0]
        )  # an optimizer that follows it
    made = reader.read(tree)
    if not isinstance(made, Call) or made.name in OPERATORS:
        raise ValueError(f"convert(text=...) must be a call such as StepLR(30), got {text!r:.60}.")
    check(made, where="convert(text=...)")
    check_values(made, None)
    return made, interval


def _scheduler(tree: Any) -> tuple[Any, str]:
    """What Lightning's ``configure_optimizers`` returns: the scheduler, and its interval."""
    interval = ""
    for _ in range(DEPTH):
        if isinstance(tree, list) and tree and all(isinstance(x, list) for x in tree[:-1]):
            tree = tree[-1] if len(tree) < 3 else tree  # [scheduler]; [optimizer], [scheduler]
        elif isinstance(tree, dict) and tree.get("frequency", 1) == 1:
            interval = tree.get("interval", interval)
            tree = tree.get("lr_scheduler", tree.get("scheduler"))
    return tree, interval


class _Reader:
    """Makes the names of a program those of its library, and rates of its optimizers."""

    def __init__(self, library: str, lr: float | None):
        self.library, self.lr, self.count = library, lr, itertools.count()

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
        return _with_rate(source, made, self.rate_of(optimizer)) if source else made

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
        if last in ("lr", "learning_rate") and self.lr is not None:
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
        said = optimizer.kwargs.get("lr") if isinstance(optimizer, Call) else None
        return self.lr if self.lr is not None or said is None else self.read(said)


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


def _with_rate(source: Entry, call: Call, lr: float | None) -> Call:
    scaled = _OF_OPTIMIZER.get(source.name.partition(".")[0], "")
    if scaled not in source.kinds or source.name in _OWN:
        scaled = ""
    places = [name for name in source.kinds if name != scaled]
    given = dict(zip(places, call.args, strict=False))
    if len(call.args) > len(places) or given.keys() & call.kwargs:
        # `check` refuses it, which counts the rate, too.
        return Call(call.name, (*[lr] * bool(scaled), *call.args), call.kwargs)
    rate = scaled or next((n for n in _RATES if n in source.needed), "")
    if rate and lr is not None and rate not in {**given, **call.kwargs}:
        given = {rate: lr, **given}
    elif scaled in source.needed and scaled not in call.kwargs:
        raise ValueError(
            f"convert(lr=...) must be given, the rate of the optimizer that {source.name} scales "
            "(--lr of the command)."
        )
    return Call(call.name, (), {**given, **call.kwargs})
