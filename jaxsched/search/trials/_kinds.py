"""Kinds: the recipes of a sweep, their names and their arguments."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from jaxsched._arrays import is_list
from jaxsched._bounds import checked_kind
from jaxsched._text import printable
from jaxsched._words import instead
from jaxsched.controllers._base import AbstractController
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.search._fingerprint import label, plain

V = TypeVar("V")
Recipe = Callable[..., Any]  # -> a schedule, or a dict of schedules
# A name, and its function: two functions may have one name. ``None`` where a person chose it.
Maker = tuple[str, object] | None


@dataclasses.dataclass(frozen=True)
class Kind:
    """A recipe with its name."""

    name: str
    maker: Maker
    recipe: Recipe

    def takes(self, arguments: list[str], where: str, only: bool) -> list[str]:
        """The arguments that the recipe has; ``only``: it is the only recipe."""
        parameters = _parameters(self.recipe)
        taken = [n for n in arguments if parameters is None or n in parameters]
        if only and len(taken) < len(arguments):
            return arguments  # the call says it best
        needed = [n for n, p in (parameters or {}).items() if p.default is p.empty]
        if missing := [n for n in needed if n not in arguments]:
            raise TypeError(
                f"{where}({missing[0]}=...) must be given: {printable(self.name)} needs it, "
                f"got only {', '.join(arguments) or 'no arguments'}."
            )
        return taken


def kinds_of(recipe: Any, arguments: Iterable[str], where: str) -> list[Kind]:
    """The recipes of a call: one, a list of them, or a dict name -> recipe."""
    if isinstance(recipe, Mapping):
        named = by_name(recipe, f"{where}(recipe=...)")
        kinds = [Kind(name, None, one) for name, one in named.items()]
    elif is_list(recipe):
        kinds = [_kind(one) for one in recipe]
    else:
        kinds = [_kind(recipe)]
    for kind in kinds:
        if isinstance(kind.recipe, (AbstractSchedule, AbstractController)):
            raise TypeError(
                f"{where}(recipe=...) must be functions that return schedules, such as "
                f"js.warmup_cosine, got the schedule {kind.recipe!r}; schedules go into the list "
                "or dict that `sweep` takes, as they are."
            )
        expected = "a function that returns a schedule, a list of such or a dict name -> function"
        checked_kind(f"{where}(recipe=...)", kind.recipe, Callable, expected)
    if not kinds:
        raise ValueError(f"{where}(recipe=...) must hold at least one recipe, got none.")
    for i, kind in enumerate(kinds):
        if kind.maker is not None and any(kind.maker == other.maker for other in kinds[:i]):
            raise ValueError(f"{where}(recipe=...) must be different, got {kind.name} twice.")
    has = {kind.name: _parameters(kind.recipe) for kind in kinds}
    # Each of several recipes takes the arguments that it has. An argument of no recipe is a slip.
    if len(kinds) > 1 and None not in has.values():
        known = sorted({name for names in has.values() for name in names or ()})
        shown = "; ".join(f"{printable(kind)} has {', '.join(has[kind] or ())}" for kind in has)
        for name in arguments:
            if name not in known:
                raise TypeError(
                    f"{where}({name}=...) must be an argument of a recipe, got "
                    f"{instead(name, known)}. {shown}."
                )
    return kinds


def by_name(given: Mapping[Any, V], where: str) -> dict[str, V]:
    """The same dict; its names must be different texts."""
    named = {str(name).strip(): one for name, one in given.items()}
    if "" in named or len(named) < len(given):
        raise ValueError(
            f"{where} must have different names that are not empty, got {list(given)}."
        )
    return named


def structure(followed: object) -> str:
    """The kind of a schedule without a known recipe: ``Linear >> Cosine``."""
    parts = getattr(followed, "parts", None)
    if isinstance(parts, tuple):
        operator = {"Sequence": " >> ", "Sum": " + "}.get(type(followed).__name__, " * ")
        return operator.join(map(structure, parts))
    inner = [getattr(followed, name, None) for name in ("schedule", "base")]
    inside = [structure(one) for one in inner if isinstance(one, AbstractSchedule)]
    return type(followed).__name__ + (f"({', '.join(inside)})" if inside else "")


def maker_of(followed: object) -> Maker:
    """The function in a schedule of code: its name says more than the schedule's class."""
    fn = getattr(followed, "fn", None)
    return None if fn is None else (_label(fn), fn)


def _kind(recipe: Recipe) -> Kind:
    name = _label(recipe)
    key: object = recipe
    if isinstance(recipe, functools.partial):  # equal ones may be made twice
        key = (recipe.func, plain(recipe.args), plain(recipe.keywords))
    return Kind(name, (name, key), recipe)


def _label(recipe: Recipe) -> str:
    if isinstance(recipe, functools.partial):
        named = [f"{name}={label(value)}" for name, value in recipe.keywords.items()]
        given = [*map(label, recipe.args), *named]
        return f"{_label(recipe.func)}({', '.join(given)})"
    name: str = getattr(recipe, "__name__", type(recipe).__name__)
    return "recipe" if name == "<lambda>" else name


def _parameters(recipe: Recipe) -> dict[str, inspect.Parameter] | None:
    """The arguments that a recipe takes by name; ``None`` if it takes any, or it isn't known."""
    try:
        parameters = inspect.signature(recipe).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in parameters.items() if p.kind in named}
