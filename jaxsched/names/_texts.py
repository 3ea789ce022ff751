"""Numbers, shares and lengths that a config holds as texts."""

from __future__ import annotations

import copy
import dataclasses
import re
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
        "num_warmup_steps stable_timescale step_size step_size_down step_size_up steps t_0 "
        "t_initial t_max t_warmup timescale total_iters total_steps transition_begin "
        "transition_steps warmup_steps warmup_t wd_incr_steps wsd_decay_steps",
        "ratio": "alpha alpha_f alpha_i decay_ratio end_factor factor lengths min_lr_rate "
        "min_lr_ratio min_scale pct pct_final pct_start pcts start_factor warmup_lr_rate",
    }
)
_OUR_RATIOS = {"factor", "limit", "rtol", "std"}  # those of pieces and controllers
_UNITS = by_word(
    {
        "steps": "steps step updates update ba",
        "epochs": "epochs epoch ep",
        "samples": "samples sample examples example sp",
        "tokens": "tokens token tok",
        "share": "dur",
    }
)
# Of these a drop-in has the length of its whole run, or of a decay that may be the whole.
_RUN = (
    *("num_training_steps", "total_steps", "lr_decay_steps", "t_initial", "decay_steps"),
    *("transition_steps", "first_decay_steps", "max_duration"),
)
_LONGEST = 400  # of a number in digits; what is longer is none
_DIGITS = re.compile(r"(?<=\d)_(?=\d)")  # between digits, as in TOML and Python
_TIME = re.compile(rf"{REAL.pattern}(ba|ep|sp|tok|dur|iter)")  # Composer's
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
_SAYS = "units=js.Units(...), of the command --units, of a sweep's file the table run, says"


@dataclasses.dataclass(frozen=True)
class Within:
    """Stands for the sizes of a run where a step is no update, so that they say nothing."""

    name: str

    @staticmethod
    def of(source: Entry | None, argument: str, units: Any) -> Any:
        """The sizes that hold for an argument: not for the schedule of one that counts anew."""
        if source is None or source.name not in _COUNTS or argument != "schedule":
            return units
        if _COUNTS[source.name] and units is None:
            raise ValueError(f"{source.name}(...) must be given the sizes of a run, which {_SAYS}.")
        if _COUNTS[source.name] and isinstance(units, Within):
            raise ValueError(f"{source.name}(...) must not stand within {units.name}.")
        return Within(source.name)

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
    lengths = {name: value(name, units) for name in given if name in _RUN}
    for source in sources:
        units = _of_run(units, source, lengths)
    return {n: lengths[n] if n in lengths else value(n, units) for n in given}


def _of_run(units: Any, source: Entry, given: Mapping[str, Any]) -> Any:
    """The sizes for a drop-in that names the length of the run itself.

    A share is of that one. Where its length is several, or may be a part, there are no shares.
    """
    theirs = "." in source.name
    name = next((n for n in _RUN if theirs and given.get(n) is not None), None)
    if units is None or name is None or isinstance(units, Within):
        return units
    steps = given[name]
    if isinstance(steps, (Call, Length)):  # not known yet
        steps = units.steps or 1
    steps = int(steps) if isinstance(steps, (int, float)) and steps % 1 == 0 else None
    if steps != units.steps and name not in ("num_training_steps", "total_steps"):
        steps = None
    sizes = copy.copy(units)  # with the spans that it has: only shares are of another whole
    sizes.__dict__["steps"] = steps or None
    return sizes


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
    names = {"share": "fraction", "epochs": "epochs", "samples": "from_samples", "tokens": "tokens"}
    return getattr(run, names[found.unit])(found.amount)


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
    if kind in ("Time", "Times") and _TIME.fullmatch(text):
        return text  # the drop-in knows it, and the trainer's arguments beside it
    where = f"{source.name if source else 'from_config'}({argument}=...)"
    known = _THEIRS.get(argument, "") if theirs else ""
    is_length = known == "length" if theirs else kind in _LENGTHS
    if known == "ratio" if theirs else argument in _OUR_RATIOS:
        kind = "Ratio"
    if text.endswith("%") and REAL.fullmatch(text[:-1].rstrip()):
        return _percentage(text, float(text[:-1]) / 100, where, kind, is_length, units)
    found = _LENGTH.fullmatch(text)
    if not found:
        if is_length and REAL.match(text):
            raise ValueError(
                f"{where} must be a length such as 500, '10%', '3 epochs', '2B tokens' or "
                f"'10k samples', got {text!r:.40}."
            )
        return text
    if not is_length:
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
        raise ValueError(
            f"{where} must be a number of steps, got {text!r}: {_SAYS} how many these are."
        )
    return Length(amount, unit)


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
            f"{where} must be a number of steps, got {text!r}: a share is of the length of a "
            "recipe, or of units=js.Units(steps=...) if those are the steps of the run here."
        )
    raise ValueError(
        f"{where} must be a number, got {text!r}: only a length or a ratio has shares."
    )
