"""The arguments of a call, bound to their names, and what other libraries call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Their word -> ours, the first that the called function has. Optax, PyTorch, Keras, Transformers,
# timm, fastai; and our own before they changed.
_OURS: dict[str, tuple[str, ...]] = {
    "T_0": ("steps",),
    "T_max": ("steps",),
    "T_mult": ("growth",),
    "accumulation_size": ("accumulate",),
    "alpha": ("end",),
    "anneal_strategy": ("shape",),
    "base_learning_rate": ("peak", "base", "low"),
    "base_lr": ("low", "peak", "base"),
    "base_momentum": ("low",),
    "batch_size": ("batch",),
    "boundaries": ("milestones", "steps"),
    "boundaries_and_scales": ("milestones", "boundaries"),
    "cooldown_steps": ("cooldown", "steps", "decay"),
    "cooldown_t": ("cooldown",),
    "cut_frac": ("cut",),
    "cycle_decay": ("decay",),
    "cycle_limit": ("cycles",),
    "cycle_mul": ("growth",),
    "decay_factor": ("factor", "decay"),
    "decay_rate": ("factor", "rate"),
    "decay_steps": ("every", "steps"),
    "decay_t": ("milestones", "every"),
    "div_factor": ("div",),
    "end_factor": ("end",),
    "end_learning_rate": ("end",),
    "end_lr": ("end",),
    "end_value": ("end",),
    "eta_max": ("peak",),
    "eta_min": ("end", "low"),
    "final_div_factor": ("final_div",),
    "final_lr": ("end",),
    "final_value": ("end",),
    "first_decay_steps": ("steps",),
    "gamma": ("factor",),
    "gradient_accumulation_steps": ("accumulation",),
    "hold_steps": ("hold",),
    "init_lr": ("start", "peak", "value"),
    "init_value": ("start", "peak", "value"),
    "initial_learning_rate": ("peak", "start", "value"),
    "learning_rate": ("peak", "base", "start", "value"),
    "length": ("steps",),
    "lr": ("peak", "base", "start", "value"),
    "lr_end": ("end",),
    "lr_max": ("peak",),
    "lr_min": ("end", "low"),
    "m_mul": ("decay",),
    "max_lr": ("peak", "high"),
    "max_momentum": ("high",),
    "max_steps": ("steps",),
    "max_value": ("peak", "high"),
    "min_delta": ("atol",),
    "min_lr": ("min_scale", "end", "low"),
    "min_lr_ratio": ("min_scale", "end"),
    "min_value": ("end", "low"),
    "momentum": ("low",),
    "num_cycles": ("cycles",),
    "num_decay_steps": ("decay", "steps"),
    "num_stable_steps": ("hold",),
    "num_steps": ("steps",),
    "num_training_steps": ("steps",),
    "num_warmup_steps": ("warmup",),
    "patience_t": ("patience",),
    "pct_start": ("warmup", "flat", "cut"),
    "peak_lr": ("peak",),
    "peak_value": ("peak",),
    "rate": ("factor",),
    "schedule": ("base",),
    "start": ("at",),
    "start_factor": ("start",),
    "start_value": ("start",),
    "step_size": ("every",),
    "step_size_down": ("down",),
    "step_size_up": ("up",),
    "t_initial": ("steps",),
    "t_mul": ("growth",),
    "threshold": ("rtol",),
    "total_iters": ("steps",),
    "total_steps": ("steps",),
    "transition_steps": ("every", "steps"),
    "value": ("peak",),
    "warmup_epochs": ("warmup",),
    "warmup_iters": ("warmup",),
    "warmup_ratio": ("warmup",),
    "warmup_steps": ("warmup",),
    "warmup_t": ("warmup",),
    "warmup_target": ("peak",),
}
# What more there is to say of (their word, ours).
_MEANING = {
    **{(word, "end"): "a value, not a ratio" for word in ("alpha", "min_lr_ratio", "end_factor")},
    **{(word, "start"): "a value, not a ratio" for word in ("start_factor",)},
    **{(word, "steps"): "the whole length" for word in ("decay_steps", "total_steps")},
    ("min_lr", "min_scale"): "the least rate divided by the base",
    ("pct_start", "warmup"): "a share is js.share(0.3)",
    ("warmup_epochs", "warmup"): "in steps; js.Units converts",
    ("warmup_ratio", "warmup"): "a share is js.share(0.1)",
}
# Where there is no such argument, what to write instead.
_START = "a warmup starts at 0 (js.with_warmup has a start)"
_INSTEAD = {
    **dict.fromkeys(("init_lr", "init_value", "initial_learning_rate"), _START),
    **dict.fromkeys(("warmup_init_lr", "warmup_lr_init"), _START),
    "eps": "every cut counts",
    "last_epoch": "a schedule has no state; js.Shift(schedule, -steps) starts in the middle",
    "monitor": "a controller is told the metric, update(state, value=...)",
    "lr_lambda": "js.from_fn makes a schedule of a function",
    "optimizer": "js.inject(optax.sgd)(learning_rate=...) puts it into an optimizer",
    "staircase": "the staircase is js.step_decay",
    "threshold_mode": "rtol= is the relative margin, atol= the absolute one",
    "transition_begin": "js.Shift(schedule, steps) starts later",
}


def bind(
    function: str,
    names: Sequence[str],
    defaults: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """The arguments by name, as Python binds them to parameters; or a ``TypeError`` that helps."""
    values = dict(zip(names, args, strict=False))
    if kwargs:
        unknown = [name for name in kwargs if name not in names]
        if unknown:
            said = " ".join(f"{function} has no argument {_instead(w, names)}." for w in unknown)
            raise TypeError(f"{said} Its arguments are ({', '.join(names)}).")
        twice = sorted(values.keys() & kwargs.keys())
        if twice:
            raise TypeError(f"{function} takes ({', '.join(names)}), got {', '.join(twice)} twice.")
        values |= kwargs
    if len(args) > len(names):
        raise TypeError(
            f"{function} takes ({', '.join(names)}), got {len(args)} positional arguments."
        )
    missing = [name for name in names if name not in values and name not in defaults]
    if missing:
        raise TypeError(
            f"{function} must be given {', '.join(missing)}: its arguments are "
            f"({', '.join(names)})."
        )
    return {name: values[name] if name in values else defaults[name] for name in names}


def _instead(word: str, names: Sequence[str]) -> str:
    if _INSTEAD.get(word) is _START and "div" in names:
        return f"{word}; the start is peak / div here"
    risen = _INSTEAD.get(word) is _START and "warmup" in names and "start" not in names
    for ours in () if risen else _OURS.get(word, ()):
        if ours in names:
            meaning = _MEANING.get((word, ours))
            return f"{word}; it is called {ours} here" + (f" ({meaning})" if meaning else "")
    if word in _INSTEAD:
        return f"{word}; {_INSTEAD[word]}"
    import difflib

    near = difflib.get_close_matches(word, names, 1)
    return f"{word}; did you mean {near[0]}" if near else word
