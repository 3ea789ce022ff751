"""The values that trials apply, tabulated on the host: float64, rounded once to float32.

So values are the same on every device, a training program is the same for all kinds of schedules,
and schedules that are mathematically equal for a while are equal bit for bit.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import jax
import numpy as np

from jaxsched._arrays import INT32_MAX, to_host
from jaxsched._text import printable
from jaxsched._types import PyTree
from jaxsched.controllers._base import AbstractController, bottom, untold
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._phase import ends
from jaxsched.search.trials._trials import Followed, Trials

# Values are computed in whole blocks that begin at multiples of this, and for short runs in rows of
# the first: NumPy may round differently in the last, partly filled vector register of an array.
BLOCK = 4096
ROWS = 1024  # or a multiple; it divides BLOCK

# The states of a trial's controllers: one, or None, for each name.
ControllerStates: TypeAlias = tuple[PyTree, ...]


class ScheduleValues:
    """[trials, hyperparameters, steps] float32, computed block by block on demand.

    Args:
        trials: the schedules. A controller's values are its base schedule's, scaled by the
            controller's state.
        steps: length of all runs in updates; ``None``: the duration of a trial's longest schedule.
        controlled: whether other trials of the sweep, in another shard, have controllers.
        updates: optimizer updates in a step, each with a row of values for every hyperparameter.
        budget: bytes of the cache of blocks.

    Attributes:
        of: makes the table of some of the trials; it alone travels to other processes.
    """

    def __init__(
        self,
        trials: Trials,
        steps: int | None,
        controlled: bool = False,
        updates: int = 1,
        budget: int = 64 << 20,
    ):
        self.hyperparams = tuple(sorted(trials[0].schedules))
        self.updates = updates
        self.names = _row_names(self.hyperparams, updates)
        followed = [[trial.schedules[name] for name in self.hyperparams] for trial in trials]
        self.controllers = [
            [one if isinstance(one, AbstractController) else None for one in row]
            for row in followed
        ]
        self._host_controllers: dict[int, list[AbstractController | None]] = {}
        self.controlled = controlled or any(c is not None for row in self.controllers for c in row)
        self.of = functools.partial(
            ScheduleValues, steps=steps, controlled=self.controlled, updates=updates
        )
        self._schedules = [[bottom(one) for one in row] for row in followed]
        self.horizons = np.array(
            [
                _horizon(t.name, row, steps, updates)
                for t, row in zip(trials, followed, strict=True)
            ],
            np.int64,
        )
        # Short runs keep only the beginning of their one block, in whole parts: so thousands of
        # trials fit. With 300 steps a block of one trial has 1024 columns, 4 KiB for each name.
        part, longest = max(1, ROWS // updates), int(self.horizons.max())
        self._rows = min(BLOCK, math.ceil(longest / part) * part)
        room = budget // len(self.names)
        self._plain = functools.lru_cache(max(1, room // (4 * self._rows)))(self._float32_block)
        # The bases in float64: controllers scale them again after each report, and round then.
        exact = max(1, room // (8 * BLOCK)) if self.controlled else 1
        self._exact = functools.lru_cache(exact)(self._float64_block)

    def __getstate__(self) -> dict[str, object]:
        return {"of": self.of}

    def start(self, trial: int) -> ControllerStates:
        """The states of the trial's controllers before the first update."""
        # Committed to the host, as every later state is: JAX compiles for the placement of its
        # arguments too, so that the first report would cost another program.
        return tuple(
            jax.device_put(_initial_state(c), _host_device()) if c is not None else None
            for c in self.host_controllers(trial)
        )

    def host_controllers(self, trial: int) -> list[AbstractController | None]:
        """The trial's controllers on the host itself, so that all platforms decide alike."""
        if trial not in self._host_controllers:
            self._host_controllers[trial] = jax.device_put(self.controllers[trial], _host_device())
        return self._host_controllers[trial]

    def values(
        self, trial: int, start: int, stop: int, controller_states: ControllerStates = ()
    ) -> np.ndarray:
        """float32 [hyperparameters, stop - start]: the values of the updates from ``start`` on.

        With the states of the trial's controllers, the scaled values; without, the base's.
        """
        first, last = start // BLOCK, -(-stop // BLOCK)
        if any(state is not None for state in controller_states):
            blocks = [
                self._scaled_block(trial, block, controller_states) for block in range(first, last)
            ]
        else:
            blocks = [self._plain(trial, block) for block in range(first, last)]
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
        return joined[:, start - first * BLOCK : stop - first * BLOCK]

    def _float32_block(self, trial: int, block: int) -> np.ndarray:
        return self._float32_rows(self._float64_block(trial, block))

    def _scaled_block(
        self, trial: int, block: int, controller_states: ControllerStates
    ) -> np.ndarray:
        """A block of the values that the controllers make of their bases in these states."""
        counts = self._update_numbers(block)
        rows = [
            values if controller is None else controller.host_values(state, counts, values)
            for controller, state, values in zip(
                self.controllers[trial],
                controller_states,
                self._exact(trial, block),
                strict=True,
            )
        ]
        return self._float32_rows(np.stack(rows))

    def _float64_block(self, trial: int, block: int) -> np.ndarray:
        """float64 [hyperparameters, updates of a block]."""
        with np.errstate(over="ignore"):
            return np.stack([s.host(self._update_numbers(block)) for s in self._schedules[trial]])

    def _update_numbers(self, block: int) -> np.ndarray:
        """The numbers of a block's updates that are kept, or some more (see ``BLOCK``)."""
        count, first = self._rows * self.updates, block * BLOCK * self.updates
        return np.arange(first, first + math.ceil(count / ROWS) * ROWS)

    def _float32_rows(self, values: np.ndarray) -> np.ndarray:
        """A row for each update of a step, from rows where one follows the other."""
        beginning = values[:, : self._rows * self.updates]
        apart = beginning.reshape(len(self.hyperparams), self._rows, self.updates)
        rows = apart.transpose(0, 2, 1).reshape(len(self.names), self._rows)
        with np.errstate(over="ignore"):  # infinite beyond float32: such a run diverges
            return rows.astype(np.float32)


def _row_names(hyperparams: tuple[str, ...], updates: int) -> tuple[str, ...]:
    """``("lr", "lr[1]", "lr[2]")`` of ``("lr",)`` with three updates in a step."""
    later = ["", *(f"[{j}]" for j in range(1, updates))]
    names = tuple(name + j for name in hyperparams for j in later)
    if len({*names}) < len(names):
        twice = sorted(name for name in hyperparams if names.count(name) > 1)
        raise ValueError(
            f"sweep(trials=...) must name no hyperparameter like the value of another's later "
            f"update in a step ({updates} in each), got {printable(', '.join(twice))}."
        )
    return names


@jax.jit
def _initial_state(controller: AbstractController) -> PyTree:
    return controller.init()


def _host_device() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names others only
        return jax.local_devices()[0]


def _horizon(name: str, followed: list[Followed], steps: int | None, updates: int) -> int:
    """The steps of a trial's runs; raises where its schedules do not tell."""
    if steps is not None:
        if steps * updates > INT32_MAX:
            raise ValueError(
                f"sweep(steps=...) must be at most {INT32_MAX // updates} with {updates} updates "
                f"in a step, got {steps}."
            )
        return steps
    lasting = [one for one in map(untold, followed) if one.duration is not None]
    lengths = [float(np.asarray(to_host(one.duration))) for one in lasting]
    longest = max(lengths, default=0.0)
    if why := _why_unknown(followed, lasting, lengths, longest):
        raise ValueError(f"sweep(steps=...) must be given for the trial {printable(name)}: {why}")
    return -(-round(longest) // updates)


def _why_unknown(
    followed: list[Followed], lasting: list[AbstractSchedule], lengths: list[float], longest: float
) -> str:
    """Why the longest schedule with an end does not say how long to train; or ""."""
    if longest < 1:
        why = f"it lasts {longest:g} steps." if lasting else "no schedule of it has an end."
        shown = repr(followed)
        if "Repeat(" in shown or "Window(" in shown:
            why += (
                " What rises again and again has one by Repeat(cycles=...), a drop-in such as "
                "torch.OneCycleLR, torch.CosineAnnealingLR or transformers.cosine by fix=True."
            )
        return why
    if longest == 1 and any(one.host(0) != one.host(1) for one in lasting):
        return (
            "it lasts 1 step, as a curve over the fraction of a run that is given no steps of its "
            "own."
        )
    if not math.isfinite(longest) or round(longest) > INT32_MAX:
        return f"it lasts {longest:g} steps, more than the {INT32_MAX} that there are."
    last = [one for one, length in zip(lasting, lengths, strict=True) if length == longest]
    if not any(map(ends, last)):
        return (
            f"its last value begins at step {longest:g}, so that a run of as many steps would not "
            "see it."
        )
    return ""
