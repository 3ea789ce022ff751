"""A schedule of another library as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsched._checks import checked_whole
from jaxsched.command._calls import found_in
from jaxsched.command._explain import python_line, unless_code
from jaxsched.names._config import build
from jaxsched.names._expression import OPERATORS, Call
from jaxsched.names._lookup import source_of
from jaxsched.names._places import Place
from jaxsched.names._sources import Entry
from jaxsched.schedules._base import AbstractSchedule
from jaxsched.schedules._picture import extent
from jaxsched.schedules._wrappers import Epochwise

_MOMENTUM = {
    "fastai.fit_one_cycle": "fastai.combined_cos(pct_start, *moms, steps=...)",
    "torch.CyclicLR": "torch.CyclicLR(max_momentum, base_momentum, ...)",
    "torch.OneCycleLR": "torch.OneCycleLR_momentum(...)",
}
# Schedules with a ``step()`` call after each batch.
_EACH_UPDATE = ("torch.OneCycleLR", "torch.OneCycleLR_momentum", "torch.CyclicLR")


def convert(
    library: str,
    text: str,
    lr: float | None = None,
    *,
    steps_per_epoch: int | None = None,
    values: Mapping[str, Any] | None = None,
) -> str:
    """A call of another library as a line of ours, with notes about it.

    Args:
        library: "torch", "hf", "keras", ...
        text: the call, as it stands in a program: ``"StepLR(optimizer, 30, gamma=0.1)"``; before
            it there may be imports, names that are given a value, and its optimizer.
        lr: the rate of the optimizer, where the schedule scales it or is a factor of it; it must
            not contradict the text.
        steps_per_epoch: updates between two calls of their ``scheduler.step()``, where it is
            called once an epoch; or of an epoch, where lengths are in epochs.
        values: the values of names and calls that only the program knows, as written there:
            ``{"args.epochs": 90, "len(loader)": 500}``.

    Returns:
        The drop-in, the Python line of pieces, and the notes from the drop-in's text.

    Raises:
        ValueError, TypeError: if the library, the name or an argument is unknown.

    >>> from jaxsched.command import convert
    >>> print(convert("torch", "StepLR(step_size=30, gamma=0.1)", lr=0.5).splitlines()[0])
    js.compat.torch.StepLR(base_lr=0.5, step_size=30, gamma=0.1)
    """
    # A call is in updates or in epochs, which the text alone does not say: PyTorch and timm step a
    # scheduler after each epoch unless it is made for updates. With `steps_per_epoch` such a
    # schedule of epochs is held for that many updates. Where the drop-in has an argument for the
    # length of an epoch (fastai, Composer), it goes there instead.
    tree, each_update, factor, notes = found_in(library, text, lr, values)
    source: Any = source_of(tree.name)
    kind = source.name.partition(".")[0]
    own = "dataloader_len" if kind == "composer" else "steps_per_epoch"
    takes = own in source.kinds and (kind != "torch" or "epochs" in tree.kwargs)
    if steps_per_epoch is not None and takes:
        tree, steps_per_epoch = _with_epoch(tree, own, steps_per_epoch), None
    made = _built(tree, own)
    line = _shown(tree)
    in_epochs = kind in ("torch", "timm") and source.name not in _EACH_UPDATE and not each_update
    in_epochs = in_epochs and isinstance(made, AbstractSchedule)
    if steps_per_epoch is not None:
        n = _checked_epoch(steps_per_epoch, source.name, made, in_epochs)
        line, made = f"js.Epochwise({line}, {n})", Epochwise(made, n)
    if factor is not None:
        line, made = f"{factor!r} * {line}", factor * made
    described = source
    if source.name == "transformers.get_scheduler":  # the schedule that it makes has more notes
        described = source_of(f"transformers.{tree.kwargs['name']}") or source
    lines = [line, unless_code(python_line, made), "", described.doc]
    if steps_per_epoch is None and in_epochs:
        notes.append("A step is an update; where theirs is an epoch, give steps_per_epoch.")
    notes += _notes(source, tree.kwargs)
    lines += [line for note in notes for line in ("", note)]
    if steps_per_epoch is None and "fix" in source.kinds and "fix" not in tree.kwargs:
        lines += ["", _fixed(tree, made)]
    return "\n".join(lines).rstrip()


def _checked_epoch(steps_per_epoch: Any, name: str, made: Any, in_epochs: bool) -> int:
    """The updates for which a schedule is held, if it is stepped once an epoch; else an error."""
    if not in_epochs:
        is_schedule = isinstance(made, AbstractSchedule)
        controls = "a controller, whose patience counts reports"
        raise ValueError(
            f"convert(steps_per_epoch=...) must not be given for {name}, "
            f"{'which is stepped once an update' if is_schedule else controls}, got "
            f"{steps_per_epoch}."
        )
    return checked_whole("convert(steps_per_epoch=...)", steps_per_epoch, 1)


def _with_epoch(tree: Call, own: str, steps_per_epoch: int) -> Call:
    """The call with the updates of an epoch in its ``own`` argument for them."""
    said = tree.kwargs.get(own, steps_per_epoch)
    if said != steps_per_epoch:
        raise ValueError(
            f"convert(steps_per_epoch=...) must be as in the text, {said!r}, or left out, got "
            f"{steps_per_epoch!r}."
        )
    return Call(tree.name, tree.args, {**tree.kwargs, own: said})


def _built(tree: Call, own: str) -> Any:
    """The schedule of the call; an error about a length names the arguments of ``convert``."""
    try:
        return build(tree, Place(run=1, counts=""))
    except ValueError as error:
        given = "give steps_per_epoch" if f"({own}=" in str(error) else "write it into the call"
        if "must be given" not in str(error):
            raise
        raise ValueError(f"{error} Here, {given}.") from None


def _notes(source: Entry, given: Mapping[str, Any]) -> list[str]:
    """Notes about a schedule of another library, by its arguments."""
    kind, notes = source.name.partition(".")[0], []
    if source.name in _MOMENTUM and given.get("cycle_momentum", True):
        notes.append(f"The momentum moves, too: js.compat.{_MOMENTUM[source.name]}.")
    left_out = {*source.kinds} - {*given}
    if kind == "fastai" and "steps_per_epoch" in left_out:
        notes.append("It has one update an epoch; give steps_per_epoch.")
    if kind in ("fastai", "fvcore") and "steps" in left_out:
        notes.append("It is a curve over the fraction of a run; give steps= within the call.")
    if kind == "composer" and any(str(x).endswith(("sp", "tok")) for x in given.values()):
        notes.append("Its steps are samples or tokens: js.Units(...).by_tokens(...).")
    return notes


def _fixed(tree: Call, made: Any) -> str:
    """Where ``fix=True`` would change the values."""
    # To twice the longer of the two, since `fix` may change the values after the end. A relative
    # tolerance alone: a rate of 1e-9 that should be 0 is a difference.
    fixed = build(Call(tree.name, tree.args, {**tree.kwargs, "fix": True}), Place(run=1, counts=""))
    if not isinstance(made, AbstractSchedule):
        return f"With fix=True: {unless_code(python_line, fixed)}"
    last = 2 * extent([made, fixed])
    steps = np.unique(np.linspace(0, last, min(last, 20_000) + 1).astype(np.int64))
    theirs, ours = made.host(steps), fixed.host(steps)
    differ = np.flatnonzero(~np.isclose(theirs, ours, rtol=1e-6, atol=0.0))
    if not differ.size:
        return "fix=True changes nothing."
    at = int(differ[0])
    return (
        f"With fix=True the values differ from step {steps[at]} on ({theirs[at]:.4g} is "
        f"{ours[at]:.4g}): "
        f"{unless_code(python_line, fixed)}"
    )


def _shown(x: Any) -> str:
    """The Python expression of a tree: its drop-ins, operators, lists and numbers."""
    if isinstance(x, Call) and x.name in OPERATORS:
        return f"({f' {x.name} '.join(map(_shown, x.args))})"
    if isinstance(x, Call):
        source: Any = source_of(x.name)  # an alias is not a function in Python
        inner = [_shown(a) for a in x.args] + [f"{k}={_shown(v)}" for k, v in x.kwargs.items()]
        return f"js.compat.{source.name}({', '.join(inner)})"
    if isinstance(x, dict):
        return f"{{{', '.join(f'{key!r}: {_shown(value)}' for key, value in x.items())}}}"
    return f"[{', '.join(map(_shown, x))}]" if isinstance(x, list) else repr(x)
