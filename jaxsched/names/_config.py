"""``from_config``: a schedule from a config or a text, by a closed table of names."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxsched import _serialize
from jaxsched._arrays import is_list, is_number, to_host
from jaxsched._text import describe, shorten
from jaxsched._words import known_arguments
from jaxsched.controllers._base import AbstractController
from jaxsched.names import _texts
from jaxsched.names._expression import DEPTH, OPERATORS, Call, Tree, parse
from jaxsched.names._lookup import check, source_of, unknown
from jaxsched.names._places import Place
from jaxsched.names._sources import BY, Entry, undescribed
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import ends
from jaxsched.units import Units

# The keys under which a config has a name: Hydra's, Lightning's, Keras', ...
NAME = ("_target_", "class_path", "class_name", "name", "type")
# With some of these keys the arguments are in a table of their own.
_WITHIN = {"class_path": "init_args", "class_name": "config", "type": "params"}
_NO_ARGUMENTS = {
    "_target_": ("_recursive_", "_convert_", "_partial_"),
    "class_name": ("module", "registered_name"),
}
# The words of a W&B sweep for values to choose from, which only `js.trials_from_config` takes.
WORDS = ("value", "values", "probabilities", "min", "max", "mu", "sigma", "q", "distribution")
# Keys of training programs' arguments, such as `lr_scheduler_type`: a table with one has no name,
# but the message can suggest the name.
_SAYS_A_NAME = re.compile("name|sched|style|component|policy|decay", re.IGNORECASE)
_WHERE = "from_config(config=...)"
_MOST = 100_000  # values of a config but for lists of numbers: aliases of YAML may stand for 10^9


@known_arguments
def from_config(config: Any, *, units: Units | None = None) -> Any:
    """The schedule or controller that a config or a text describes. Nothing is ever executed.

    Args:
        config: a mapping of any kind (of TOML, YAML, JSON, OmegaConf, Hydra) with a ``name`` and
            the arguments. It names a recipe, a piece or a controller, or the drop-in of another
            library, ``"torch.OneCycleLR"``, ``"hf.cosine_with_restarts"``. Arguments may be
            configs again. Or a text, ``"warmup_cosine(peak=1e-3, steps=1000, warmup=10%)"``, with
            the operators of schedules. Numbers may be texts (``"1e-3"``); so may be shares of a
            recipe's length (``"10%"``) and lengths with a unit (``"3 epochs"``, ``"2B tokens"``).
            A dict from ``js.to_dict`` is a config, too.
        units: the sizes of the run, for lengths in epochs, samples and tokens.

    Returns:
        A schedule or controller.

    Raises:
        ValueError: if a name, a unit or a text is unknown; the message has the nearest names.
        TypeError: if an argument is unknown or missing, or it is not a config.

    >>> import jaxsched as js
    >>> config = {"name": "warmup_cosine", "peak": "1e-3", "steps": 1000, "warmup": "10%"}
    >>> js.from_config(config) == js.warmup_cosine(1e-3, 1000, 100)
    True
    >>> run = js.Units(batch=100, samples=50_000)
    >>> js.from_config("0.1 * Cosine(1, 0, 2 epochs)", units=run).duration
    1000
    """
    # A config goes through four stages. `read` turns every kind of config into a tree of calls.
    # `check` compares all names and arguments with the table before anything is made. `build` makes
    # the schedule from the outside in: the meaning of a text depends on its `Place`. At last
    # `settle` compares the lengths that are relative to the run with the finished schedule.
    check_units(units)
    tree = parse(config) if isinstance(config, str) else config
    if isinstance(tree, Mapping) and "jaxsched" in tree:
        return _checked(_serialize.from_dict(tree))
    tree = read(tree)
    if not isinstance(tree, Call):
        several = ": one after the other they are {'name': 'Sequence', 'parts': [...]}"
        several = several if isinstance(tree, list) else ""
        raise TypeError(
            f"{_WHERE} must be a mapping with a name, or a text such as 'cosine_decay(0.1, 1000)', "
            f"got {describe(config)}{several}."
        )
    place = Place.of(units, run=1)
    made = _checked(build(tree, place))
    place.settle()
    return made


def _checked(made: object) -> AbstractSchedule | AbstractController:
    if not isinstance(made, (AbstractSchedule, AbstractController)):
        raise TypeError(
            f"{_WHERE} must be the config of a schedule or controller, got that of "
            f"{describe(made)}."
        )
    return made


def check_units(units: object, where: str = "from_config") -> None:
    if units is not None and not isinstance(units, Units):
        raise TypeError(f"{where}(units=...) must be a js.Units, got {describe(units)}.")


def read(config: Any, depth: int = 0) -> Tree:
    """A config as calls, lists and values; all names and arguments are in the table."""
    try:
        tree = _read(config, depth, itertools.count())
        check(tree, _serialize._REGISTERED)
    except RecursionError:
        raise ValueError(f"{_WHERE} must be nested at most {DEPTH} deep.") from None
    return tree


def _read(config: Any, depth: int, count: Iterator[int]) -> Tree:
    """A config as calls, dicts, lists and values; names and arguments are checked later."""
    # Values are counted, since aliases of YAML make a billion of a file of ten lines. A list of
    # plain numbers is one value, which a table of a hundred thousand steps may be.
    if depth > DEPTH:
        raise ValueError(f"{_WHERE} must be nested at most {DEPTH} deep.")
    if next(count) > _MOST:
        raise ValueError(f"{_WHERE} must have at most {_MOST} values.")
    inner = lambda x: _read(x, depth + 1, count)
    if isinstance(config, str):
        if "${" in config:
            need = "without references, `OmegaConf.to_container(config, resolve=True)`"
            raise ValueError(f"{_WHERE} must be {need}, got {config!r:.60}.")
        return parse(config) if "(" in config else config
    if not isinstance(config, Mapping) and not is_list(config):
        return config
    items = _opened(config)
    if not isinstance(config, Mapping):
        return items if all(type(x) in (int, float) for x in items) else list(map(inner, items))
    given = dict(items)
    if not all(isinstance(key, (str, int, float)) for key in given):
        raise TypeError(f"{_WHERE} must have texts for keys, got {list(given)!r:.60}.")
    if {*NAME} & {*given}:
        return _call(given, inner)
    if depth == 0:
        keys = f"the keys {shorten(', '.join(map(str, given)))!r}{_named(given)}"
        raise TypeError(f"{_WHERE} must have a 'name', got {keys if given else '{}'}.")
    if {*WORDS} & {*given}:
        raise ValueError(
            f"{_WHERE} must have values to choose from only in js.trials_from_config, and "
            f"bounds only of the arguments there, not of a schedule within, got {given!r:.60}."
        )
    return {_texts.value(k): inner(v) for k, v in given.items()}


def _call(given: dict[Any, Any], inner: Callable[[Any], Tree]) -> Call:
    """A table with a name, as a call; ``inner`` reads the values in it."""
    # The first key in the order of `NAME` has the name; a later one beside it is an argument, as
    # the `name` that each of Keras' schedules has.
    key = next(key for key in NAME if key in given)
    name = given.pop(key)
    if not isinstance(name, str) or "(" in name or name in OPERATORS:
        raise TypeError(f"from_config({key}=...) must be the text of a name, got {describe(name)}.")
    if isinstance(given.get(_WITHIN.get(key, "")), Mapping):
        within = dict(_opened(given.pop(_WITHIN[key])))
        if twice := given.keys() & within:
            raise TypeError(f"{_WHERE} must have each argument once, got {sorted(twice)} twice.")
        given |= within
    if key == "class_name" and "." not in name:
        name = f"keras.{name}"
    given = {k: v for k, v in given.items() if k not in _NO_ARGUMENTS.get(key, ())}
    args = given.pop("args", given.pop("_args_", ()))
    if not is_list(args):
        raise TypeError(f"from_config(args=...) must be a list, got {describe(args)}.")
    kwargs = {str(k): inner(v) for k, v in given.items()}
    return Call(name.strip(), tuple(map(inner, args)), kwargs)


def _named(given: Mapping[Any, Any]) -> str:
    """A hint for the message about a table without a name: the key under which one stands."""
    if named := [repr(k) for k, x in given.items() if isinstance(x, Mapping) and {*NAME} & {*x}]:
        that, has = ("those", "have") if named[1:] else ("that", "has")
        return f": {that} of {shorten(', '.join(named))} {has} one"
    for key, x in given.items():
        if isinstance(x, str) and _SAYS_A_NAME.search(str(key)):
            return f": {key}={source.call if (source := source_of(x)) else unknown(x)}"
    return ""


def _opened(config: Any) -> list[Any]:
    """The items of a container. OmegaConf's raise errors of their own for missing values."""
    try:
        return list(config.items() if isinstance(config, Mapping) else config)
    except RecursionError:
        raise
    except Exception as error:  # OmegaConf's of a reference to nothing is a ValueError
        raise ValueError(
            f"{_WHERE} must be complete, got {type(config).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error


def build(tree: Call, outer: Place, caller: str = "", argument: str = "") -> Any:
    """The result of a call at a place, or as an argument of a ``caller`` at that place."""
    # All places of one run append their lengths to one list, `told`. The lengths from this call
    # begin at index `start`.
    place = outer.within(caller, argument) if caller else outer
    start = len(place.told)
    made = _operation(tree, place) if tree.name in OPERATORS else _made(tree, place)
    place.made(tree.name, lasts(made), start)
    if place.told is not outer.told:  # a run of its own
        place.settle()
    return made


def lasts(made: object) -> list[float]:
    """How many steps a schedule lasts, several of several; none if it or its last value stays."""
    duration = to_host(getattr(made, "duration", None))
    stays = duration is None or (np.ndim(duration) == 0 and not ends(made))
    return [] if stays else np.ravel(duration).tolist()


def _made(tree: Call, place: Place) -> Any:
    """The schedule or value that a call in a config returns."""
    source = source_of(tree.name) or undescribed(
        tree.name, _serialize._REGISTERED[tree.name]._names
    )
    make = maker(source, place.units)
    given = {**dict(zip(source.kinds, tree.args, strict=False)), **tree.kwargs}
    value = lambda name, place: value_of(given[name], source, name, place)
    # A user's own class may treat time in any way, so nothing within it is relative to the run.
    inner = place if source.module else place.within(tree.name)
    values = inner.in_order([source], given, value)
    values |= place.left_out(source, values)
    try:
        return make(**values)
    except (ArithmeticError, LookupError) as error:  # such as of an empty list
        raise ValueError(
            f"{tree.name}(...) must be given arguments that fit together, got {describe(values)}: "
            f"{type(error).__name__}: {error}."
        ) from error


def maker(source: Entry, units: Units | None) -> Callable[..., Any]:
    """The function or class of an entry, also one of one's own; or the method of the sizes."""
    if not source.module:
        return _serialize._REGISTERED[source.name]
    if source.name in BY:
        Place.of(units).within(source.name)  # raises where there are none
        return getattr(units, source.name)
    return vars(importlib.import_module(source.module))[source.name.rpartition(".")[2]]


def value_of(tree: Tree, source: Entry, argument: str, place: Place) -> Any:
    """The value of an argument."""
    if isinstance(tree, Call):
        return build(tree, place, source.name if source.module else "", argument)
    if isinstance(tree, dict):
        key = lambda k: value_of(k, source, argument, place) if isinstance(k, str) else k
        return {key(k): value_of(x, source, str(k), place) for k, x in tree.items()}
    if isinstance(tree, list) and not all(type(x) in (int, float) for x in tree):
        return [value_of(x, source, argument, place) for x in tree]
    return _texts.read(tree, source, argument, place)


def _operation(tree: Call, place: Place) -> Any:
    """Operands in a text, such as ``a >> b``, put together."""
    operands = [
        build(x, place, tree.name) if isinstance(x, Call) else _texts.value(x) for x in tree.args
    ]
    expected = f"{_WHERE} must have other operands around {tree.name}, got "
    for x in operands:
        plain = is_number(x) and not isinstance(x, bool)
        if not plain and not isinstance(x, (AbstractSchedule, AbstractController)):
            text = f"{x!r:.40}: there is no arithmetic of lengths" if isinstance(x, str) else ""
            raise TypeError(f"{expected}{text or describe(x)}.")
    # A sum of lengths in texts is refused above: "2 epochs" + "10%" would be text and text.
    try:
        if all(map(is_number, operands)):  # 9 ** 9 ** 9 is then an overflow, and no delay
            operands = [float(x) for x in operands]
        return OPERATORS[tree.name](*operands)
    except TypeError as error:
        if "unsupported operand" not in str(error):
            raise
        raise TypeError(f"{expected}{describe(operands)}.") from None
    except ArithmeticError as error:
        raise ValueError(f"{_WHERE} must be arithmetic that works, got {error}.") from None
