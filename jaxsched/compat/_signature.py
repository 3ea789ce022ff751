"""The arguments of drop-ins: the signature declares each one's kind, and ``@drop_in`` checks it.

The kinds are wider than the kinds of recipes: a drop-in accepts every value that the other library
accepts. The body gets numbers; known ones are checked, and others may be traced.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

from jaxsched import _types
from jaxsched._arrays import is_list
from jaxsched._bounds import check_choice, check_text, checked_kind
from jaxsched._checks import (
    checked_array,
    checked_flag,
    checked_number,
    checked_steps,
    cure,
    violates,
)
from jaxsched._text import describe
from jaxsched._types import Leaf
from jaxsched._words import bind, did_you_mean
from jaxsched.compat._optimizer import optimizers_place
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._noise import check_range

F = TypeVar("F", bound=Callable[..., Any])


def drop_in(make: F) -> F:
    """Binds and checks the arguments in the name of the other library's function."""
    # Annotations are texts (`from __future__ import annotations`), such as "Number | None". The
    # kind that one names is looked up in the function's module when it is called; `jaxsched.names`
    # reads the same texts off the source, so that a slip in a config is answered without JAX.

    # Of `_torch_plateau` and the like, too, which are parts of `torch`.
    library = make.__module__.rpartition(".")[2].lstrip("_").partition("_")[0]
    function = f"{library}.{make.__name__}"
    # Not written there: for a type checker a module that has it has every name.
    make.__globals__.setdefault("__getattr__", functools.partial(_lacking, make.__globals__))
    parameters = inspect.signature(make).parameters.values()
    words: dict[str, str] = {p.name: p.annotation for p in parameters}
    places = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    @functools.wraps(make)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if len(args) > len(places):
            raise TypeError(
                f"{function} takes ({', '.join(places)}), got {len(args)} positional arguments."
            )
        hint = optimizers_place(function, list(words), args)
        given = bind(function, list(words), defaults, args, kwargs, hint)
        # Defaults are checked as well: they are few, and a check also converts.
        for name, word in words.items():
            kind = word.removesuffix(" | None")
            if given[name] is not None or kind == word:
                check = _check_of(make.__globals__[kind])
                given[name] = check(f"{function}({name}=...)", given[name])
        return make(**given)

    return checked  # type: ignore[return-value]


def _check_of(kind: Any) -> Callable[[str, Any], Any]:
    """That of an ``Annotated`` type; of a ``Literal``, that it is one of the words."""
    if hasattr(kind, "__metadata__"):
        return kind.__metadata__[0]
    return functools.partial(check_choice, options=get_args(kind))


def _lacking(module: dict[str, Any], name: str) -> NoReturn:
    near = did_you_mean(name, [n for n, x in module.items() if hasattr(x, "__wrapped__")])
    raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}{near}")


def _number(check: Callable[..., Leaf] = checked_number, **bounds: Any) -> Callable[..., Any]:
    """A check of one number; ``jaxsched.names`` reads the bounds off the calls below."""
    return lambda where, x: check(where, _one(where, x), **bounds)


def _one(where: str, x: Leaf) -> Leaf:
    # PyTorch takes a list of rates, one for each group of parameters; here it would be a population
    # of schedules, which is something else.
    if is_list(x):
        raise TypeError(
            f"{where} must be one, got {describe(x)}: groups of parameters that differ have a "
            "schedule each, by `js.optim.group_lr(factory, {expression: schedule})`."
        )
    return x


def _numbers(
    check_one: Callable[..., Leaf] = checked_number, **bounds: Any
) -> Callable[[str, Any], Any]:
    """A list of numbers; any of them may be traced."""

    def check(where: str, xs: Leaf) -> list[Leaf]:
        xs = xs if is_list(xs) else checked_array(where, xs, False, None)
        return [check_one(where, x, **bounds) for x in xs]

    return check


def _range(where: str, x: Leaf) -> Leaf:
    if is_list(x) and len(x) != 2:
        raise ValueError(f"{where} must be a step or two of them, got {describe(x)}.")
    steps = [checked_number(where, step, at_least=0) for step in (x if is_list(x) else [x])]
    check_range(where, steps[0], where, steps[1] if len(steps) > 1 else None)
    return steps if is_list(x) else steps[0]


def _schedule(where: str, x: object) -> Any:
    return checked_kind(where, x, AbstractSchedule, "a schedule", cure)


def _schedules(where: str, xs: object) -> list[AbstractSchedule]:
    if not is_list(xs) or not xs:
        raise TypeError(f"{where} must be a list of at least one schedule, got {describe(xs)}.")
    return [_schedule(where, x) for x in xs]


def _fractions(where: str, xs: Any) -> list[AbstractSchedule]:
    """Schedules of the fraction of a run, from 0 to 1: a longer one would be cut."""
    for x in _schedules(where, xs):
        if x.duration is not None and violates(lambda steps: steps > 1 + 1e-6, x.duration):
            raise ValueError(
                f"{where} must be schedules over the fraction of a run, from 0 to 1, without steps "
                f"of their own, got {describe(x)}."
            )
    return list(xs)


def _function(where: str, x: Leaf) -> Callable[..., Any]:
    return checked_kind(where, _one(where, x), Callable, "a function")


def _words(where: str, xs: object) -> list[str]:
    if not is_list(xs):
        raise TypeError(f"{where} must be a list of texts, got {describe(xs)}.")
    return [check_text(where, x) for x in xs]


def _options(where: str, x: object) -> dict[str, Any]:
    if not isinstance(x, Mapping) or not all(isinstance(name, str) for name in x):
        raise TypeError(f"{where} must be a dict of arguments by name, got {describe(x)}.")
    return dict(x)


def chosen(where: str, x: object, makers: Mapping[str, Any]) -> Any:
    """The maker that another library's word names."""
    return makers[check_choice(where, x, makers)]


Number = Annotated[_types.Number, _number()]
NotNegative = Annotated[_types.Number, _number(at_least=0)]
Positive = Annotated[_types.Number, _number(above=0)]
Ratio = Annotated[_types.Number, _number(at_least=0, at_most=1)]
Share = Annotated[_types.Number, _number(above=0, below=1)]
Fraction = Annotated[_types.Number, _number(at_least=0, below=1)]
PositiveRatio = Annotated[_types.Number, _number(above=0, at_most=1)]
Whole = Annotated[_types.Number, _number(at_least=0, whole=True)]  # steps, or a count
Seed = Annotated[_types.Number, _number(at_least=0, at_most=0x7FFFFFFF, whole=True)]
Count = Annotated[_types.Number, _number(at_least=1, whole=True)]
# Lengths, which need not be whole; one between 0 and 1 is refused as a slip for a share.
Span = Annotated[_types.Number, _number(checked_steps, at_least=0)]
PositiveSpan = Annotated[_types.Number, _number(checked_steps, above=0)]
AnySpan = Annotated[_types.Number, _number(checked_steps)]
Spans = Annotated[Any, _numbers(checked_steps)]
Numbers = Annotated[Any, _numbers()]
Wholes = Annotated[Any, _numbers(at_least=0, whole=True)]
Range = Annotated[Any, _range]  # the first step, or that and the first one after
Schedule = Annotated[AbstractSchedule, _schedule]
Schedules = Annotated[Any, _schedules]
Fractions = Annotated[Any, _fractions]
Function = Annotated[Callable[..., Any], _function]
TextOrFunction = Annotated[
    str | Callable[..., Any], lambda where, x: x if isinstance(x, str) else _function(where, x)
]
Text = Annotated[str, check_text]
Words = Annotated[Any, _words]
Flag = Annotated[bool, checked_flag]
Mode = Literal["min", "max"]  # of a metric: whether less or more is better
ThresholdMode = Literal["rel", "abs"]
Options = Annotated[Any, _options]
