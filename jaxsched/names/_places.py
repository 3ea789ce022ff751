"""The place of a length in a config: the unit of a step there, and lengths relative to the run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxsched.names._expression import Call
from jaxsched.names._sources import BY, Entry

# Within these a schedule begins and ends as they do: with the run, if they do.
_SAME = {
    *("+", "-", "*", "/", "**", "Sum", "Product", "Minimum", "Maximum", "Power", "Clip", "Noisy"),
    *("Around", "AutoDecay", "Bounce", "Greedy", "NewBob", "Plateau", "Trigger"),
}
# Within these a step is an update, too, but not always the same update of the run.
_PARTS = {
    *(">>", "Sequence", "RightClosed", "Repeat", "Reverse", "Shift", "Window", "Quantize", "Warp"),
    *("with_warmup", "cooldown_from", "Trigger", "optax.join_schedules"),
    *("torch.SequentialLR", "torch.ChainedScheduler"),
}
# These give a length to a curve over the fraction of a run, which stays one within.
_STRETCHED = {"Stretch", "fastai.combine_scheds", "fvcore.CompositeParamScheduler"}
# Within these a schedule counts something else than updates: the unit, if it has a name.
_COUNTS = {"Epochwise": "", "Paced": "", **{name: name.removeprefix("by_") for name in BY}}
# Within a name that is in none of these, no length can be relative to the run.

RUN = ("num_training_steps", "total_steps", "num_updates")  # a drop-in's length: its shares' whole
_SAYS = "units=js.Units(...) (--units of the command, the table `run` of a sweep's file)"
_OF_RUN = ("steps", "steps_per_epoch", "dataloader_len")  # sizes of the run that a curve may need
_MANY = 10**6  # epochs; if each ends with an update, so does the last


class Told(NamedTuple):
    """A length in a message: relative to the run, or another, which could be meant by it."""

    text: str
    why: str = ""  # the meaning of a length relative to the run; empty for any other
    point: bool = False  # whether it says only where something is, or how often


@dataclasses.dataclass(frozen=True)
class Place:
    """The sizes of the run, as they hold for a part of a config.

    Only a place resolves a length relative to the run: a percentage by ``steps``, a curve over the
    fraction of a run by ``run``. Each is ``None`` where there is no such length.
    """

    # Example: `Constant(0.1, 900) >> Linear(0.1, 0, 10%)` with Units(steps=1000). The line begins
    # later than the run. So within `>>` there is no `run`, and a curve of fastai gets no length
    # there. But `steps` is known, and 10% of it gives the line 100 steps. `Epochwise` has neither:
    # its schedule counts epochs.
    units: Any = None
    steps: int | None = None
    run: int | None = None
    around: str = ""  # the outer name that hides the run; empty where all begins and ends with it
    counts: str = "updates"
    told: list[Told] = dataclasses.field(default_factory=list)
    # For each schedule that begins and ends with the run: its durations, if any, and its lengths.
    whole: list[tuple[list[float], list[Told]]] = dataclasses.field(default_factory=list)

    @staticmethod
    def of(units: Any, run: int | None = None) -> Place:
        """The place of a whole config. Without ``units`` and with ``run=1``, fractions stay."""
        steps = getattr(units, "steps", None)
        return Place(units, steps, run if units is None else steps)

    def within(self, name: str, argument: str = "") -> Place:
        """The place of a schedule that is an argument of a name."""
        # A `Trigger` lasts as its base does, but its stages begin when they are triggered.
        if name in _SAME and argument != "stages":
            return self
        if name in _PARTS:
            return dataclasses.replace(self, run=None, around=self.around or name)
        if name in _STRETCHED:
            return dataclasses.replace(self, steps=None, run=1, around=name, told=[], whole=[])
        if name in BY and self.units is None:
            raise ValueError(f"{name}(...) must be given the sizes of a run: {_SAYS}.")
        if name in BY and self.counts != "updates":
            raise ValueError(f"{name}(...) must not stand within {self.around}.")
        counts = _COUNTS.get(name, self.counts)
        return dataclasses.replace(self, steps=None, run=None, around=name, counts=counts)

    def in_order(
        self, sources: list[Entry], given: Iterable[str], value: Callable[[str, Place], Any]
    ) -> dict[str, Any]:
        """The ``value(name, place)`` of each argument; the length of a run is read first."""
        # A drop-in with the length of its run (`num_training_steps`) takes percentages of that, so
        # it must be known before the others: "num_warmup_steps": "10%" may stand before it.
        # The steps of a curve are the run's; its own numbers are in ``num_updates``, of any unit.
        first = {name: value(name, self) for name in given if name in (*RUN, "steps")}
        run, place = next((first[n] for n in RUN if first.get(n) is not None), None), self
        if run is not None and any("." in source.name for source in sources):
            if isinstance(run, (Call, tuple)):  # not known yet
                run = self.steps or 1
            known = isinstance(run, (int, float)) and 0 < run < math.inf
            place = dataclasses.replace(self, steps=int(run) if known else None, told=[])
        return {n: first[n] if n in first else value(n, place) for n in given}

    def in_steps(self, where: str, text: str, amount: float, unit: str, begins: bool) -> int:
        """Epochs, samples or tokens, which begin where their schedule does or not."""
        # `Units` counts from the start of the run. While the batch grows, an epoch later in the run
        # has fewer updates than the first: a length that begins elsewhere has no one number of
        # steps. The batch grows if its stages have different paces.
        units, steps = self.units, {"samples": "from_samples"}.get(unit, unit)
        if not begins or self.around:
            from jaxsched.schedules._base import Constant

            by = units.by_tokens if unit == "tokens" else units.by_samples
            if len({*by(Constant(0.0)).paces}) > 1:
                raise ValueError(
                    f"{where} must be a number of steps while the batch grows, got {text!r}, which "
                    f"is fewer later in the run: or write by_{unit}(...)."
                )
        return int(getattr(units, steps)(abs(amount))) * (1 if amount >= 0 else -1)

    def refused(self, where: str, text: str, unit: str) -> ValueError:
        """The error of a length with an unknown number of steps here."""
        wanted, within = "a number of steps", f" within {self.around}" if self.around else ""
        if unit == "share":
            why = ": a percentage is of the length of a recipe, or of units=js.Units(steps=...) "
            why += "where the updates of that run are counted"
        elif self.counts == "updates":
            wanted, why = f"{wanted} where the sizes of the run are not given", f": give {_SAYS}"
        else:
            wanted = "a plain number" + (f" or in {self.counts}" if self.counts else "")
            why = "" if self.counts or unit == "steps" else f": by_{unit}(...) is of one in {unit}"
            within += ", whose schedule does not count updates"
        return ValueError(f"{where} must be {wanted}{within}, got {text!r:.40}{why}.")

    def left_out(self, source: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
        """The run's length for a curve over fractions that omits it; for Composer, an epoch's."""
        name = next((n for n in _OF_RUN if n in source.kinds), "")
        if name in ("", *values) or not source.name.startswith(("fastai.", "fvcore.", "composer.")):
            return {}
        where = f"{source.name}({name}=...) must be given"
        units, size = self.units, "steps" if name == "steps" else "samples"
        repair = f" within {self.around}" if self.around else f", or units=js.Units({size}=...)"
        if size == "samples" and self.around in ("", *_PARTS) and getattr(units, size, None):
            # Where samples / batch is not whole, some epochs have one update more than others.
            if units.epochs(_MANY) == _MANY * units.epochs(1):
                return {name: units.epochs(1)}
            repair = ": not every epoch of the run has as many updates"
        if name == "dataloader_len":  # which may not be needed
            return {}
        if self.run is None or (size == "samples" and (units or self.around)):
            raise ValueError(f"{where}{repair}.")
        self.told.append(Told(where, "without it the curve lasts"))
        if units is None or self.around:
            return {}
        own = values.get("milestones")
        own = values.get("num_updates") or (own[-1] if own and isinstance(own, list) else self.run)
        if own != self.run:
            raise ValueError(f"{where}: its own length {own} is not Units(steps={self.run}).")
        return {name: self.run}

    def made(self, name: str, ends: list[float], start: int) -> None:
        """Records the durations of a finished schedule; its own lengths begin at ``start``."""
        if ends and not any(length.why for length in self.told[start:]):
            self.told.append(Told(f"{name}(...) of {max(ends):g} steps"))
        if name not in _SAME and (self.run is not None or not self.around):
            self.whole.append((ends, self.told[start:]))

    def settle(self) -> None:
        """Raises for a length relative to the run in a schedule that does not last the run."""
        relative = next((length for length in self.told if length.why), None)
        run = self.run
        if relative is None or run is None:
            return
        # A percentage in a piece is of the run, since a piece does not know its surroundings.
        # `Linear(0.1, 0, 10%) >> Constant(0.1, 900)` with Units(steps=1000) lasts the run. With 800
        # in place of 900, the 10% could also mean 10% of the shorter schedule. So the finished
        # schedule is checked: it has relative lengths alone, or it lasts the run.
        steps = f"Units(steps={run})" if self.units and not self.around else "1 step"
        for durations, lengths in self.whole:
            lasts = durations and all(abs(x - run) < 0.5 for x in durations)
            others = [x.text for x in lengths if not x.why and (durations or not x.point)]
            if others and not lasts:
                raise ValueError(
                    f"{relative.text} beside {others[0]}: {relative.why} {steps}, and beside "
                    "another length it could be that one. Write steps."
                )
