"""The arguments of a call, bound to their names, and the names in other libraries."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from jaxsched._text import shorten

F = TypeVar("F", bound=Callable[..., Any])


def by_word(table: Mapping[str, str]) -> dict[str, str]:
    """Each word of the texts -> the key of its text."""
    return {word: key for key, words in table.items() for word in words.split()}


_WARMUP = "num_warmup_steps warmup_steps lr_warmup_steps t_warmup warmup_t"
_WARMUPS = (
    f"{_WARMUP} warmup_epochs warmup_fraction warmup_iters warmup_num_steps warmup_ratio "
    "warmup_updates"
)
# Our words -> the words of other libraries: Optax, PyTorch, Keras, Transformers, timm, Composer,
# Megatron, fastai, fvcore, fairseq; and our own old words. If we have several words, the first one
# in the called function's signature counts: `base_lr` is "low" of `triangular`, "peak" of a recipe,
# "base" of a controller. Each word of theirs stands only once: they are the keys of a dict.
_THEIRS = {
    "accumulate": "accumulation_size",
    "accumulation": "accumulate_grad_batches gradient_accumulation_steps",
    "at": "from_step start start_step",
    "atol": "min_delta",
    "base": "schedule",
    "base_lr lr": "optimizer",
    "batch": "batch_size global_batch_size",
    "boundaries": "milestones",
    "cooldown": "cooldown_t",
    "cooldown decay": "cooldown_fraction",
    "cut": "cut_frac",
    "cycles": "count cycle_limit n_cycles num_cycles times",
    "decay": "cooldown cycle_decay decay_fraction m_mul wsd_decay_steps",
    "dimension": "d_model embed_dim hidden_size model_size",
    "div": "div_factor",
    "down": "step_size_down",
    "drop_last": "drop_remainder",
    "end": "alpha alpha_f end_factor end_learning_rate end_lr end_value final_lr final_lr_scale "
    "final_value lr_end min_learning_rate min_lr_rate",
    "end low": "eta_min lr_min min_value",
    "every": "decay_period step_size",
    "factor": "gamma rate",
    "factor decay": "decay_factor",
    "factor rate": "decay_rate",
    "final_div": "final_div_factor",
    "final_div end": "div_final",
    "folds": "cv n_splits",
    "fraction": "percent",
    "growth": "T_mult cycle_mul cycle_mult t_mul t_mult",
    "high": "a_max max max_momentum upper",
    "hold": "hold_steps",
    "limit": "noise_pct",
    "low": "a_min base_momentum lower min momentum",
    "low peak base lr": "base_lr",
    "milestones boundaries": "boundaries_and_scales",
    "milestones every": "decay_t",
    "milestones steps": "boundaries",
    "min_scale end": "min_lr_ratio",
    "end low constant lr_min eta_min": "min_lr",
    "monitor": "watch",  # our own old name, like share
    "parts": "schedulers schedules",
    "per_epoch": "iterations_per_epoch steps_per_epoch updates_per_epoch",
    "patience": "patience_t",
    "peak": "eta_max lr_max peak_lr peak_value warmup_max_lr warmup_target",
    "peak base low": "base_learning_rate",
    # The last ones are arguments of drop-ins, for a call with the words of a third library.
    "peak base start value lr base_lr initial_learning_rate init_value": "learning_rate lr",
    "peak fraction": "value",
    "peak high": "max_lr max_value",
    "peak start value": "initial_learning_rate initial_lr",
    "rtol": "threshold",
    "samples": "dataset_size num_samples",
    "shape": "anneal_strategy decay_type lr_wsd_decay_style",
    "share_prefixes": "share",
    "seed": "noise_seed",
    "start": "init_lr_scale start_factor start_lr start_value",
    "start at": "begin",
    "start peak": "alpha_i base_value",
    "start peak value": "init_lr init_value",
    "num_updates steps num_training_steps total_steps lr_decay_steps": "T_0 T_max cycle_len "
    "cycle_length delay duration first_decay_steps knots length lr_decay_iters lr_decay_steps "
    "max_steps max_update num_epochs num_iter num_steps num_train_epochs num_training "
    "num_training_steps t_0 t_initial t_max total_iters total_num_steps total_num_update "
    "total_steps train_iters",
    "std": "noise_std",
    "stop": "end",
    "tokens_per_sample": "seq_len sequence_length",
    "up": "step_size_up",
    "value": "peak",
    f"warmup {_WARMUP}": _WARMUPS,
    "warmup_lr_init": "warmup_init_lr warmup_lr warmup_min_lr warmup_start_lr",
    "warmup flat cut": "pct_start",
}
_OURS = {word: ours.split() for word, ours in by_word(_THEIRS).items()}
# Lengths of a stage, or of the whole: (another argument, our word). The first pair with an argument
# of the called function counts. `decay_steps` is the `decay` of a function with a warmup, such as
# `wsd`, and else the whole.
_DECAY = (
    ("cooldown", "cooldown"),
    ("growth", "steps"),  # of cycles: their decay is a factor
    ("warmup", "decay"),
    ("every", "every"),
    ("steps", "steps"),
)
_STAGES = {
    "cooldown_steps": (("cooldown", "cooldown"), ("warmup", "decay"), ("at", "steps")),
    "decay_steps": _DECAY,
    "num_decay_steps": _DECAY,
    "transition_steps": (("every", "every"), ("steps", "steps")),
}
# A hint for (their word, our word): the new name with the old value would be a slip, a share in
# place of a rate or epochs in place of steps.
_RATIOS = {
    "end": "alpha alpha_f div_final end_factor min_lr_rate min_lr_ratio",
    "start": "start_factor",
}
_SHARES = {
    "warmup": "pct_start warmup_fraction warmup_ratio",
    "flat": "pct_start",
    "cut": "cut_frac pct_start",
}
_MEANING = {
    **{(w, ours): "a value, not a ratio" for ours, ws in _RATIOS.items() for w in ws.split()},
    **{
        (w, ours): "a share is js.share(0.3), in a config '30%'"
        for ours, ws in _SHARES.items()
        for w in ws.split()
    },
    **{
        (f"warmup_{share}", steps): "in steps: a share of the run, times its steps"
        for share in ("ratio", "fraction")
        for steps in _WARMUP.split()
    },
    **{("optimizer", rate): "its rate" for rate in ("base_lr", "lr")},
    ("decay_steps", "steps"): "the whole length",
    ("total_steps", "steps"): "the whole length",
}
# The repair, if we have no such argument.
_START = "a warmup starts at 0 (js.with_warmup has a start)"
_INSTEAD = by_word(
    {
        _START: "init_lr init_value initial_learning_rate warmup_init_lr warmup_lr warmup_lr_init "
        "warmup_min_lr warmup_start_lr",
        "a controller is told the metric, update(state, value=...)": "monitor",
        "a schedule has no state; js.Shift(schedule, -steps) starts in the middle": "last_epoch "
        "start_epoch",
        "a run begins where task.init(key) says": "state",
        "cosines that come back are js.warm_restarts": "cycle_limit num_cycles",
        "every cut counts": "eps",
        "a schedule prints nothing": "verbose",
        "a step is what one counts; js.Epochwise holds each for an epoch": "by_epoch "
        "sched_on_updates t_in_epochs units update_interval",
        "js.with_warmup(schedule, warmup) has one": _WARMUPS,
        "js.inject sets the rate of its first step": "initialize",
        "the weight decay has a schedule of its own (js.compat.megatron.get_wd)": "start_wd end_wd "
        "wd_incr_steps wd_incr_style",
        "jaxsched.optim.resume has a policy": "override_opt_param_scheduler "
        "use_checkpoint_opt_param_scheduler",
        "it belongs to the training loop": "cbs reset_opt wd",
        "js.Clip(schedule, low=...) is a bound": "end_value",
        "js.Cosine(start, end, steps, exponent) has one": "exponent",
        "js.Shift(schedule, steps) starts later": "transition_begin",
        "js.Units makes steps of epochs": "epochs max_epochs steps_per_epoch",
        "js.Warp(shape, power) is k-decay": "k_decay",
        "js.cooldown_from(schedule, at, steps) ends a schedule": "cooldown_steps",
        "js.from_fn makes a schedule of a function": "lr_lambda",
        "js.inject(optax.sgd)(learning_rate=...) puts it into an optimizer": "optimizer",
        "js.piecewise_constant takes values": "values",
        "rtol= is the relative margin, atol= the absolute one": "threshold_mode",
        "the momentum is js.one_cycle_momentum": "base_momentum cycle_momentum max_momentum moms",
        "the stable phase is what remains of steps": "num_stable_steps stable_steps",
        "the staircase is js.step_decay": "staircase",
        "triangular2 is decay=0.5, exp_range js.triangular_exp": "mode",
    }
)


def wrap(x: object) -> str:
    """The end of a message about something else in place of a schedule."""
    return uncalled(x) or "; wrap a function with `js.from_fn`"


def uncalled(x: object) -> str:
    """The end of a message about a recipe, or a class of ours, without a call."""
    if not isinstance(x, type) and not inspect.isfunction(x):
        return ""
    ours = "jaxsched.schedules.", "jaxsched.recipes.", "jaxsched.controllers."
    if not (x.__module__ or "").startswith(ours) or not x.__name__[0].isalpha():
        return ""
    kind, name = "class" if isinstance(x, type) else "recipe", f"js.{x.__name__}"
    return f"; {name} is a {kind}, not called: give {name}(...)"


def bind(
    function: str,
    names: Sequence[str],
    defaults: Mapping[str, object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    described: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The arguments by name, as Python binds them to parameters; or a ``TypeError`` with a repair.

    The error about a missing argument quotes its description, if it is among the ``described``.
    """
    # An unknown name first: for `f(peak_value=1)` "peak is missing" would not help.
    values = dict(zip(names, args, strict=False))
    if kwargs:
        _refuse_unknown(function, names, kwargs)
        twice = sorted(values.keys() & kwargs.keys())
        if twice:
            raise TypeError(f"{function} takes ({_listed(names)}), got {', '.join(twice)} twice.")
        values |= kwargs
    if len(args) > len(names):
        raise TypeError(
            f"{function} takes ({_listed(names)}), got {len(args)} positional arguments."
        )
    if not {*values, *defaults}.issuperset(names):
        raise _missing(function, names, {*values, *defaults}, described or {})
    return {name: values[name] if name in values else defaults[name] for name in names}


def known_arguments(function: F) -> F:
    """A function, or a class, with the errors of ``bind`` for arguments that do not fit.

    Nothing else changes: neither the signature nor any other call.
    """
    # A training loop may call this at every step, so the call only compares sets of names. Python
    # binds the arguments, with its own errors for the rest.
    given: Any = function
    is_class = isinstance(given, type)
    called: Any = vars(given)["__init__"] if is_class else given
    parameters = [*inspect.signature(called).parameters.values()][is_class:]  # without `self`
    others = [f"**{p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    only_by_place = {p.name for p in parameters if p.kind is p.POSITIONAL_ONLY}
    by_name = [*names[len(places) :], *others]
    optional = {p.name for p in parameters if p.default is not p.empty}

    @functools.wraps(called)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not others:
            _refuse_unknown(given.__name__, names, kwargs)
        if (positional := len(args) - is_class) > len(places):
            also = f" and, by name, ({_listed(by_name)})" if by_name else ""
            raise TypeError(
                f"{given.__name__} takes ({_listed(places)}){also}, got {positional} positional "
                "arguments."
            )
        passed = {*places[:positional], *(kwargs.keys() - only_by_place), *optional}
        if not passed.issuperset(names):
            raise _missing(given.__name__, names, passed, {})
        return called(*args, **kwargs)

    if not is_class:
        return cast(F, call)
    given.__init__ = call  # a wrapped class would be none for isinstance and pickle
    return function


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name for name in names if not name.startswith("_"))


def _missing(
    function: str, names: Sequence[str], passed: Container[str], described: Mapping[str, str]
) -> TypeError:
    said = lambda name: f"{name} ({described[name]})" if name in described else name
    missing = ", ".join(said(name) for name in names if name not in passed)
    return TypeError(f"{function} must be given {missing}: its arguments are ({_listed(names)}).")


def _refuse_unknown(function: str, names: Sequence[str], kwargs: Mapping[str, object]) -> None:
    unknown = [name for name in kwargs if name not in names]
    if unknown:
        said = " ".join(f"{function} has no argument {instead(w, names)}." for w in unknown)
        raise TypeError(f"{said} Its arguments are ({_listed(names)}).")


def instead(word: str, names: Sequence[str]) -> str:
    """An unknown argument, with its name here, the repair, or the nearest name."""
    word = shorten(word)
    why = _INSTEAD.get(word)
    if why is _START and "div" in names:
        return f"{word}; the start is peak / div here"
    if why is _START and "values" in names:
        return f"{word}; it is the first of values here"
    for ours in _ours(word, names):
        return f"{word}; it is called {ours} here{_meaning(word, ours, names)}"
    near = nearest(word, names)
    if near and not why:
        why = f"did you mean {near[0]}{_meaning(word, near[0], names)}"
    return f"{word}; {why}" if why else word


def tell_names(module: dict[str, Any], late: Mapping[str, str] | None = None) -> None:
    """Lets a module answer a slip with the nearest of its names, and load the ``late`` ones late.

    It is not written there as functions: for a type checker a module with these has every name.
    """
    # Python calls a module's `__getattr__` only for missing names, so existing names cost nothing.
    # Copying, pickling and notebooks ask for many names with an underscore.
    names = lambda: sorted({*module, *(late or ())} - {"TYPE_CHECKING"})

    def get(name: str) -> object:
        if late and name in late:
            return getattr(importlib.import_module(late[name]), name)
        public = [n for n in names() if n[0] != "_"]
        near = did_you_mean(name, public) if name[0] != "_" else ""
        raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}{near}")

    module.update({"__getattr__": get, "__dir__": names})


def did_you_mean(word: object, names: Iterable[str], shown: Callable[[str], str] = str) -> str:
    """The end of a message about an unknown word: the most similar name, if there is one."""
    near = nearest(word, names) if isinstance(word, str) else []
    return f"; did you mean {shown(near[0])}" if near else ""


def nearest(word: str, names: Iterable[str], most: int = 1, cutoff: float = 0.7) -> list[str]:
    """The names similar to a word; only the names of the same letters, if there are any.

    If none is similar, the names that begin with it, or that it begins with (``cos``, ``cosine``).
    """
    # Surest first: other case or underscores (`StepLr`), a few wrong letters, a beginning. A long
    # text is cut, since the comparison takes time with the square of its length.
    names = list(names)
    if same := [name for name in names if letters(name) == letters(word)]:
        return same[:most]
    import difflib

    near = lambda word: difflib.get_close_matches(word, names, most, cutoff)
    longer = lambda x, y: len(y) > 2 and x.startswith(y)
    goes_on = [name for name in names if longer(name, word) or longer(word, name)]
    return near(word[:60]) or near(word[:60].lower()) or goes_on[:most]


def letters(text: str) -> str:
    return text.replace("_", "").replace("-", "").lower()


def _ours(word: str, names: Sequence[str]) -> list[str]:
    """Our words for a word of theirs, the likeliest first."""
    # With a warmup, their `init_value` is the first value of the warmup; recipes have no such
    # argument. For a decay it is `peak`.
    if _INSTEAD.get(word) is _START and "start" not in names and "warmup" in names:
        return []
    stages = [ours for beside, ours in _STAGES.get(word, ()) if beside in names]
    return [ours for ours in (*stages, *_OURS.get(word, ())) if ours in names]


def _meaning(word: str, ours: str, names: Sequence[str]) -> str:
    epochs = "in steps; js.Units converts" if "epoch" in word and "epoch" not in ours else ""
    meaning = _MEANING.get((word, ours), epochs)
    if "hold" in names and ours in ("start", "end"):  # tri_stage's
        meaning = "a ratio of the peak"
    elif "at" in names and ours == "steps":  # cooldown_from's `steps` are not the whole length
        meaning = ""
    return f" ({meaning})" if meaning else ""
