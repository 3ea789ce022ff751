"""Numbers, shares and lengths that a config holds as texts."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxsched._numerals import REAL, THOUSANDS, numeral
from jaxsched._words import by_word
from jaxsched.names._expression import Call
from jaxsched.names._sources import BY, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jaxsched.units import Units

# Kinds of arguments: of recipes by their annotations, of classes by their fields.
_LENGTHS = {"Steps", "Cycle", "Length", "Apart", "Period", "Milestones", "length", "lengths"}
_SHARES = {"Steps", "Cycle", "Length", "Apart", "Period", "Milestones"}
_RATIOS = {"Ratio", "PositiveRatio"}
# Of drop-ins by their names, which are those of their library.
_THEIRS = by_word(
    {
        "length": "T_0 T_max anneal_epochs boundaries boundaries_and_scales decay_period "
        "decay_steps decay_t first_decay_steps lr_decay_steps lr_warmup_steps max_duration "
        "milestones noise_range_t num_decay_steps num_stable_steps num_training_steps "
        "num_updates num_warmup_steps stable_timescale step_size step_size_down step_size_up "
        "steps t_0 t_initial t_max t_warmup timescale total_iters total_steps transition_begin "
        "transition_steps warmup_steps warmup_t wd_incr_steps wsd_decay_steps",
        "ratio": "alpha alpha_f alpha_i decay_ratio end_factor factor lengths min_lr_rate "
        "min_lr_ratio min_scale pct pct_final pct_start pcts start_factor warmup_lr_rate",
    }
)
_OF_FRACTION = ("fastai.", "fvcore.")  # libraries
_STRETCHED = ("Stretch", "Window")
_JOINED = (">>", "Repeat", "Sequence")
# Those of pieces and controllers.
_OUR_RATIOS = {
    *("factor", "limit", "max_scale", "min_scale", "ratio", "rtol", "smooth", "std", "threshold")
}
_UNITS = by_word(
    {
        "steps": "steps step updates update ba",
        "epochs": "epochs epoch ep",
        "samples": "samples sample examples example sp",
        "tokens": "tokens token tok",
        "share": "dur",
    }
)
_RUN = ("num_training_steps", "total_steps", "num_updates")  # of a drop-in, of which its shares are
# The length of a schedule, of which somebody may mean a percentage beside it.
WHOLE = {
    *("steps", "cycle", *_RUN, "T_0", "T_max", "t_0", "t_initial", "t_max", "max_duration"),
    *("total_iters", "decay_steps", "first_decay_steps", "lr_decay_steps", "transition_steps"),
}
_LONGEST = 400  # of a number in digits; what is longer is none
_DIGITS = re.compile(r"(?<=\d)_(?=\d)")  # between digits, as in TOML and Python
_TIME = re.compile(rf"{REAL.pattern}(?P<unit>ba|ep|sp|tok|dur|iter)")  # Composer's
_LENGTH = re.compile(
    rf"({REAL.pattern})\s*([{''.join(THOUSANDS)}]?)\s*({'|'.join(_UNITS)})?", re.IGNORECASE
)


def value(x: Any) -> Any:
    """A value of a config: the number that a text is; else as it is."""
    return number(x) if isinstance(x, str) else x


def number(text: str) -> Any:
    """The number that a text is; else the text."""
    found = numeral(_DIGITS.sub("", text)) if len(text) < _LONGEST else None
    return text if found is None else found


# Whose schedule counts something else than updates, and what, if that has a name.
_COUNTS = {"Epochwise": "", "Paced": "", **{name: name.removeprefix("by_") for name in BY}}
_SAYS = "units=js.Units(...) (--units of the command, the table `run` of a sweep's file)"


@dataclasses.dataclass(frozen=True)
class Within:
    """Stands for the sizes of a run where a step is no update, so that they say nothing."""

    name: str
    steps: int | None = None  # of a drop-in within that names its run

    @staticmethod
    def of(source: Entry | None, argument: str, units: Any) -> Any:
        """The sizes that hold for an argument: not for the schedule of one that counts anew."""
        if source is None or source.name not in _COUNTS or argument != "schedule":
            return units
        if _COUNTS[source.name] and units is None:
            raise ValueError(f"{source.name}(...) must be given the sizes of a run: {_SAYS}.")
        if _COUNTS[source.name] and isinstance(units, Within):
            raise ValueError(f"{source.name}(...) must not stand within {units.name}.")
        return Within(source.name)

    def fraction(self, part: float) -> int:
        from jaxsched.units import Units

        return Units(batch=1, steps=self.steps).fraction(part)

    def length(self, where: str, text: str, amount: float, unit: str) -> float:
        """A length, which may only have the unit that is counted."""
        own = _COUNTS[self.name]
        if unit == own:
            return _whole(amount)
        known = f" or in {own}" if own else ""
        instead = "" if own or unit == "steps" else f": by_{unit}(...) is of one in {unit}"
        raise ValueError(
            f"{where} must be a plain number{known} within {self.name}, whose schedule does not "
            f"count updates, got {text!r:.40}{instead}."
        )


def in_order(
    sources: list[Entry], given: Iterable[str], units: Any, value: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """The ``value(name, sizes)`` of each argument, first of those that name the run's length."""
    if "dataloader_len" in given and not isinstance(units, (Within, NoneType)):
        units = _but(units, samples=None)  # an epoch is what the drop-in says
    lengths = {name: value(name, units) for name in given if name in _RUN}
    run = next((lengths[name] for name in lengths if lengths[name] is not None), None)
    if units is not None and run is not None and any("." in source.name for source in sources):
        if isinstance(run, (Call, Length)):  # not known yet
            run = units.steps or 1
        known = isinstance(run, (int, float)) and 0 < run < math.inf
        units = _but(units, steps=int(run) if known else None)
    return {n: lengths[n] if n in lengths else value(n, units) for n in given}


def names_its_run(source: Entry, given: Mapping[str, Any]) -> bool:
    return "." in source.name and any(given.get(name) is not None for name in _RUN)


def _but(units: Any, **changed: Any) -> Any:
    """Sizes with others, and with the spans that they have: an epoch stays as long."""
    if isinstance(units, Within):
        return dataclasses.replace(units, **changed)
    sizes = copy.copy(units)
    sizes.__dict__.update(changed)
    return sizes


def left_out(source: Entry, given: Mapping[str, Any], parent: str, units: Any) -> dict[str, Any]:
    """What a curve over the fraction of a run is to be given of it; of Composer's, their epoch.

    Not where another curve of a fraction, or what changes its length, is around it.
    """
    if isinstance(units, (Within, NoneType)):
        return {}
    if source.name == "composer.ExponentialScheduler" and units.samples:  # by default an epoch
        return {} if {"decay_period", "dataloader_len"} & {*given} else {"decay_period": "1 epoch"}
    name = next((n for n in ("steps", "steps_per_epoch") if n in source.kinds), None)
    if name is None or name in given or not source.name.startswith(_OF_FRACTION):
        return {}
    if name == "steps" and parent.startswith((*_OF_FRACTION, *_STRETCHED)):
        return {}
    size = "samples" if name == "steps_per_epoch" else "steps"
    if getattr(units, size) is None or (name == "steps" and parent in _JOINED):
        known = "" if parent in _JOINED else f", or units=js.Units({size}=...)"
        raise ValueError(f"{source.name}({name}=...) must be given{known}.")
    return {name: units.steps if name == "steps" else units.epochs(1)}


class Length(NamedTuple):
    """An amount of epochs, samples or tokens, or a share of the whole, as a text says it."""

    amount: float
    unit: str


def read(text: str, source: Entry | None, argument: str, units: Units | None) -> Any:
    """The number, share or length that a text is for an argument; else the text."""
    found = meant(text, source, argument, units)
    run: Any = units  # `meant` has seen that it is there where it is needed
    if not isinstance(found, Length):
        return found
    kind = source.kinds.get(argument) if source and "." not in source.name else ""
    if found.unit == "share" and kind in _SHARES:
        from jaxsched.recipes._share import share

        return share(found.amount)
    return in_steps(found, run)


def in_steps(length: Length, run: Units) -> int:
    names = {"share": "fraction", "epochs": "epochs", "samples": "from_samples", "tokens": "tokens"}
    count: int = getattr(run, names[length.unit])(length.amount)
    return count


def check_lengths(lengths: Iterable[tuple[Entry, str, Any]], units: Any) -> None:
    """Raises for a percentage of the run beside the length of a schedule that is none of it.

    And for Composer's times in samples and tokens where there are no sizes.
    """
    share, whole = "", ""
    for source, argument, x in lengths:
        where = f"{source.name}({argument}=...)"
        if units is None and isinstance(x, str) and x.lower().endswith(("sp", "tok")):
            raise _needs_sizes(where, x)
        if is_share(x):
            share = share or f"{where} must be a number of steps, got '{100 * x.amount:.6g}%'"
        elif source.kinds.get(argument) == "lengths":  # points of a run, not its length
            continue
        elif argument in WHOLE and isinstance(x, (int, float, Length)):
            known = not isinstance(x, Length) or hasattr(units, "epochs")
            steps = in_steps(x, units) if isinstance(x, Length) and known else x
            if known and units is not None and steps != units.steps:
                whole = whole or f"{where[:-4]}{steps}"
    if share and whole:
        raise ValueError(
            f"{share} beside {whole}): a percentage is of Units(steps={units.steps}), and beside "
            "another length it could be of that one. Write steps."
        )


def meant(text: str, source: Entry | None, argument: str, units: Any) -> Any:
    """The number that a text is for an argument, or a `Length`; else the text.

    It loads no JAX. Of ``units`` it asks only whether there are any, and their ``steps``.
    """
    found: Any = number(text)
    if found is not text or len(text) > _LONGEST:
        return found
    text = _DIGITS.sub("", text.strip())
    kind = source.kinds.get(argument, "") if source else ""
    theirs = source is not None and "." in source.name
    time = _TIME.fullmatch(text.lower()) if kind in ("Time", "Times") else None
    if time and (
        units is None
        or time["unit"] in ("dur", "iter")
        or (time["unit"] == "ep" and getattr(units, "samples", units) is None)
    ):
        return text  # the drop-in knows it, and the trainer's arguments beside it
    where = f"{source.name if source else 'from_config'}({argument}=...)"
    counts = is_length(source, argument)
    if _THEIRS.get(argument) == "ratio" if theirs else argument in _OUR_RATIOS:
        kind = "Ratio"
    elif theirs and kind not in _RATIOS:
        kind = ""  # a drop-in's Length is no recipe's, which has shares
    if text.endswith("%") and REAL.fullmatch(text[:-1].rstrip()):
        return _percentage(text, float(text[:-1]) / 100, where, kind, counts, units)
    found = _LENGTH.fullmatch(text)
    small = found and found[2] in ("m", "b", "t") and not found[3]  # minutes? a slip for ba?
    if not found or (small and counts):
        if counts and REAL.match(text):
            told = ""
            if found:
                count = float(found[1]) * THOUSANDS[found[2]]
                told = f": {found[1]}{found[2].upper()} is {count:,.0f} steps"
            raise ValueError(
                f"{where} must be a length such as 500, '10%', '3 epochs', '2B tokens' or "
                f"'10k samples', got {text!r:.40}{told}."
            )
        return text
    if not counts:
        raise ValueError(f"{where} must not be a length, got {text!r:.40}.")
    amount = float(found[1]) * THOUSANDS.get(found[2], 1.0)
    unit = _UNITS[(found[3] or "steps").lower()]
    if unit == "share":
        return _percentage(text, amount, where, kind, True, units)
    if amount < 0 or amount > 1e300:
        raise ValueError(f"{where} must be finite and at least 0, got {text!r:.40}.")
    if isinstance(units, Within):
        return units.length(where, text, amount, unit)
    if unit == "steps":
        return _whole(amount)
    if units is None:
        raise _needs_sizes(where, text)
    return Length(amount, unit)


def _needs_sizes(where: str, text: str) -> ValueError:
    return ValueError(
        f"{where} must be a number of steps where the sizes of the run are not given, got "
        f"{text!r}: give {_SAYS}."
    )


def is_share(x: Any) -> bool:
    return isinstance(x, Length) and x.unit == "share"


def is_length(source: Entry | None, argument: str) -> bool:
    if source is None or "." not in source.name:
        return source is not None and source.kinds.get(argument) in _LENGTHS
    return _THEIRS.get(argument) == "length"


def of_run(source: Entry, argument: str, x: Any, units: Any) -> bool:
    """Whether a value is a length in updates of the run: not a share of a recipe's own length."""
    if isinstance(units, Within) or not is_length(source, argument):
        return False
    own = "." not in source.name and source.kinds.get(argument) in _SHARES
    return not (own and is_share(x))


def _whole(amount: float) -> float:
    return int(amount) if amount.is_integer() else amount


def _percentage(
    text: str, part: float, where: str, kind: str, is_length: bool, units: Any
) -> float | Length:
    if kind in _RATIOS or where == "share(fraction=...)":
        return part
    if is_length and not 0 <= part <= 1:
        raise ValueError(f"{where} must be from 0% to 100%, got {text!r}.")
    if kind in _SHARES or (is_length and getattr(units, "steps", None) is not None):
        return Length(part, "share")
    if is_length:
        raise ValueError(
            f"{where} must be a number of steps, got {text!r}: a percentage is of the length of a "
            "recipe, or of the run if that is one number: units=js.Units(steps=...)."
        )
    raise ValueError(
        f"{where} must be a number, got {text!r}: only a length or a ratio has shares."
    )
