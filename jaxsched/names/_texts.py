"""Numbers, shares and lengths that a config holds as texts."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from jaxsched._numerals import REAL, THOUSANDS, numeral
from jaxsched._words import by_word
from jaxsched.names._expression import Tree
from jaxsched.names._places import RUN, Place, Told
from jaxsched.names._sources import Entry

# Arguments that are lists, by kind or name.
LISTS = {
    *("Milestones", "Numbers", "Spans", "Times", "Wholes", "Words", "lengths", "numbers"),
    *("Fractions", "Schedules", "_Curves", "parts"),
}
# Kinds of arguments: of recipes by their annotations, of classes by their fields.
_LENGTHS = {"Steps", "Cycle", "Length", "Apart", "Period", "Milestones", "length", "lengths"}
_SHARES = {"Steps", "Cycle", "Length", "Apart", "Period", "Milestones"}
_RATIOS = {"Ratio", "PositiveRatio"}
# The arguments of drop-ins by their names in their library.
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
# The arguments of pieces and controllers.
_OUR_RATIOS = by_word({"ratio": "factor limit max_scale min_scale ratio rtol smooth std threshold"})
_UNITS = by_word(
    {
        "steps": "steps step updates update ba",
        "epochs": "epochs epoch ep",
        "samples": "samples sample examples example sp",
        "tokens": "tokens token tok",
        "share": "dur %",
    }
)
# Lengths that say nothing of how long a run is.
_POINTS = re.compile(
    "every|quiet|start|stop|bound|timescale|per_epoch|step_size|decay_period|milestones|boundaries"
    "|decay_t$|noise_range|warmup"
)
# Lengths that begin with the run, where their schedule does.
_FROM_START = {
    *("steps", "warmup", "flat", "quiet", "milestones", "boundaries", *RUN),
    *("num_warmup_steps", "warmup_steps", "lr_warmup_steps", "warmup_t", "t_warmup"),
    *("T_max", "t_max", "max_duration", "total_iters", "lr_decay_steps"),
}
_LONGEST = 400  # characters of a number; a longer text is not one
_DIGITS = re.compile(r"(?<=\d)_(?=\d)")  # between digits, as in TOML and Python
_TIME = re.compile(rf"{REAL.pattern}(?P<unit>ba|ep|sp|tok|dur|iter)")  # Composer's
_LENGTH = re.compile(
    rf"({REAL.pattern})\s*([{''.join(THOUSANDS)}]?)\s*({'|'.join(_UNITS)})?", re.IGNORECASE
)


# The number that a text means depends on the argument: "10%" is 0.1 for a ratio, a share for a
# recipe's length, a number of steps for a piece's, and an error for a rate. So every text goes
# through `read` (or `meant`, which needs no JAX) with the entry of the called name. Annotations
# tell our lengths from other arguments. Drop-ins have wider kinds (a `Whole` may be a length or a
# count), so the tables above list their lengths.


def value(x: Tree) -> Tree:
    """A value of a config: a text of a number becomes the number; others stay unchanged."""
    short = isinstance(x, str) and len(x) < _LONGEST
    number = numeral(_DIGITS.sub("", x)) if short else None
    return x if number is None else number


class Length(NamedTuple):
    """An amount of epochs, samples or tokens, or a share of the whole, as a text says it."""

    amount: float
    unit: str


def read(x: Tree, source: Entry, argument: str, place: Place) -> Tree:
    """The number, share or length that a text is for an argument; else the value as it is."""
    # Three steps: the text becomes an amount with a unit; a recipe gets a share as it is, and all
    # others get its steps; an amount in another unit becomes steps. Each length is then recorded in
    # the place, which compares all of them at the end.
    parsed = meant(x, source, argument, place) if isinstance(x, str) else x
    if not is_length(source, argument):
        return parsed
    kind = source.kinds.get(argument) if "." not in source.name else ""
    where = f"{source.name}({argument}=...)"
    if isinstance(parsed, Length) and parsed.unit == "share":
        from jaxsched.recipes._share import share
        from jaxsched.units import Units

        if kind in _SHARES:
            return share(parsed.amount)
        message = f"{where} must be a number of steps, got {x!r},"
        place.told.append(Told(message, "a percentage is of"))
        # Rounded as `js.Units` rounds a fraction of the run. The batch of 1 plays no part.
        steps = Units(1, steps=place.steps).fraction(abs(parsed.amount))
        return steps if parsed.amount > 0 else -steps
    if isinstance(parsed, Length):
        begins = argument in _FROM_START and argument in source.kinds and kind != "Apart"
        begins &= "cycles" not in source.kinds
        count, unit = parsed
        parsed = place.in_steps(where, x, count, unit, begins)
        # A period is not rounded to whole updates where an epoch is not whole: the rounding errors
        # add up, and the hundredth period would begin far from its epoch.
        period = kind == "Period" or source.name in ("Epochwise", "Quantize")
        if period and unit == "epochs" and count:
            from jaxsched.schedules._base import Constant

            one = place.units.by_epochs(Constant(0.0))
            parsed = count * getattr(one, "per_epoch", parsed / count)
    xs = parsed if isinstance(parsed, list) else [parsed]
    if any(isinstance(x, (int, float, str)) and x != 0 for x in xs):
        point = bool(_POINTS.match(argument))
        place.told.append(Told(f"{where[:-4]}{parsed!r:.20})", point=point))
    return parsed


def meant(text: str, source: Entry | None, argument: str, place: Place) -> Tree:
    """The number that a text is for an argument, or a `Length`; else the text. It loads no JAX."""
    # In this order: a word of a closed set ("cosine"), a plain number, a flag, a time of Composer
    # that needs the trainer's arguments, an amount with a unit. For an argument that is a length, a
    # text that begins with a number and has none of these forms is an error here. A later check
    # would refuse it too, but its message would not show the form of a length.
    bounds = source.bounds.get(argument, {}) if source else {}
    number: Any = text if "options" in bounds else value(text)
    if number is not text or len(text) > _LONGEST or "options" in bounds:
        return number
    text = _DIGITS.sub("", text.strip())
    kind = source.kinds.get(argument, "") if source else ""
    if kind == "Flag" and text.lower() in ("true", "false"):  # as of a shell
        return text.lower() == "true"
    times = kind in ("Time", "Times")
    time = _TIME.fullmatch(text.lower()) if times else None
    converted = place.counts == "updates" and time and time["unit"] in ("sp", "tok")
    if time and (time["unit"] in ("dur", "iter") or not (place.units or converted)):
        return text  # the drop-in knows it, and the trainer's arguments beside it
    return _with_unit(text, source, argument, place, times)


def _with_unit(text: str, source: Entry | None, argument: str, place: Place, times: bool) -> Tree:
    """The number or the `Length` of an amount with a unit; ``times`` are Composer's."""
    where = f"{source.name if source else 'from_config'}({argument}=...)"
    counts = is_length(source, argument)
    length = _LENGTH.fullmatch(text)
    # "5m" may be meant as minutes, "5b" as a slip for "5ba"; "5M" can only be millions.
    small = length and length[2] in ("m", "b", "t") and not length[3]
    if not length or (small and counts):
        if counts and REAL.match(text):
            raise _misread(where, text, length)
        return text
    counted = place.counts if place.counts != "updates" else "steps"
    unit = _UNITS[length[3].lower()] if length[3] else counted
    amount = float(length[1]) * THOUSANDS.get(length[2], 1.0)
    if unit == "share":
        return _share(amount / 100 if text.endswith("%") else amount, text, source, argument, place)
    if not counts:
        hint = "" if length[3] else f": write {amount:.12g}"
        raise ValueError(f"{where} must not be a length, got {text!r:.40}{hint}.")
    if not 1e300 * _least(source, argument) <= amount <= 1e300:
        raise ValueError(f"{where} must be finite and at least 0, got {text!r:.40}.")
    amount = int(amount) if amount.is_integer() else amount
    if unit == counted:
        return amount
    if times and unit == "epochs" and place.counts == "updates":
        return f"{amount}ep"
    if place.units is None or place.counts != "updates":
        raise place.refused(where, text, unit)
    return Length(amount, unit)


def _share(part: float, text: str, source: Entry | None, argument: str, place: Place) -> Tree:
    """The number that a percentage is for an argument, or a `Length` of the whole."""
    name, kind = (source.name, source.kinds.get(argument, "")) if source else ("from_config", "")
    where, theirs = f"{name}({argument}=...)", "." in name
    is_ratio = _THEIRS.get(argument) == "ratio" if theirs else argument in _OUR_RATIOS
    if is_ratio or kind in _RATIOS or where == "share(fraction=...)":
        return part
    if not is_length(source, argument):
        raise ValueError(
            f"{where} must be a number, not a percentage, got {text!r}: write {part:.12g}."
        )
    if not _least(source, argument) <= part <= 1:
        raise ValueError(f"{where} must be from 0% to 100%, got {text!r}.")
    # A drop-in's Length has no shares, as a recipe's has.
    if (theirs or kind not in _SHARES) and place.steps is None:
        raise place.refused(where, text, "share")
    return Length(part, "share")


def _least(source: Entry | None, argument: str) -> int:
    return -1 if source is not None and source.bounds.get(argument) == {} else 0  # -1: of a shift


def _misread(where: str, text: str, length: re.Match[str] | None) -> ValueError:
    """The error of a text that begins as a length does."""
    hint = ""
    if length:
        amount = float(length[1]) * THOUSANDS[length[2]]
        hint = f": {length[1]}{length[2].upper()} is {amount:,.0f} steps"
    return ValueError(
        f"{where} must be a length such as 500, '10%', '3 epochs', '2B tokens' or '10k samples', "
        f"got {text!r:.40}{hint}."
    )


def is_length(source: Entry | None, argument: str) -> bool:
    if source is None or "." not in source.name:
        return source is not None and source.kinds.get(argument) in _LENGTHS
    return _THEIRS.get(argument) == "length"
