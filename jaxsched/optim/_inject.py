"""``inject``: schedules that live in the optimizer state, as data."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Any, Never

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from jaxsched._arrays import donatable_copy, same_structure
from jaxsched._bounds import checked_kind
from jaxsched._checks import checked_items
from jaxsched._text import describe
from jaxsched._types import PyTree
from jaxsched._words import uncalled
from jaxsched.optim._extra import Forwarder, gates, passed, with_forwarded
from jaxsched.optim._register import register_export, register_flax
from jaxsched.optim._state import InjectState, Override
from jaxsched.schedules._base import AbstractSchedule, Constant

Transformation = optax.GradientTransformation | optax.MultiSteps
Factory = Callable[..., Transformation]
FACTORY = "a function that makes an optimizer, such as optax.adam"
_KEYWORDS = inspect.Parameter.VAR_KEYWORD


def inject(
    factory: Factory,
    *misplaced: Never,
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: DTypeLike = jnp.float32,
    **by_name: Never,
) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Lets schedules drive any hyperparameter of an Optax optimizer, from inside its state.

    ``inject(optax.adamw)(learning_rate=schedule, weight_decay=0.1)`` is the optimizer
    ``optax.adamw`` with the rate ``schedule(count)`` at update ``count`` (from 0). Schedules and
    controllers among the arguments become state; ``factory`` gets all others as they are. So, but
    for a schedule's rounding, the updates equal the plain optimizer's, bit for bit.

    The schedules themselves are part of the optimizer state: change a number there (``override``),
    or put other schedules of the same structure there, and the next update follows, without a new
    trace. Under ``vmap`` every member of a population has its own.

    A scheduled value is kept in ``hyperparam_dtype`` whatever the parameters are, and promotes as a
    Python number does: updates keep the dtype of their parameter. Schedules are computed in float32
    (and rounded once to a narrower dtype), or in float64 where that is asked for. The state shares
    no array with anybody, so that a step may donate it.

    Args:
        factory: a function that returns an ``optax.GradientTransformation``, such as
            ``optax.adamw``, or your own
            ``lambda lr, clip: optax.chain(optax.clip_by_global_norm(clip), optax.sgd(lr))``. It is
            called again in every trace, with float32 scalars for the scheduled arguments.
        static_args: names of arguments to leave alone even if they are schedules.
        hyperparam_dtype: the floating dtype of the values, float32. float64 needs x64 mode. The
            scale of a controller stays float32, and numbers in arrays are as they were given: make
            ``js.Table`` and its like of float64 arrays.
        misplaced, by_name: refused: the arguments of ``factory`` go into the second call.

    Returns:
        A function with the arguments of ``factory``. It takes a schedule (or controller) for any
        numeric argument (if there is none, each scalar ``jax.Array`` is taken for a
        ``js.Constant``), and returns an ``optax.GradientTransformationExtraArgs``. Its state holds
        one ``InjectState``. To be able to change a constant later, give ``js.Constant(0.9)``. A
        plain function is not taken for a schedule, since it may be a mask: wrap it in
        ``js.from_fn``.

    Raises:
        TypeError: if ``factory`` can't be called, an argument is unknown or missing, or a schedule
            is given for an argument that isn't a number.
        ValueError: if ``static_args`` names no argument, nothing is scheduled, or a dtype is asked
            for that JAX doesn't have in this mode.

    >>> import jax.numpy as jnp, optax, jaxsched as js
    >>> from jaxsched.optim import current, inject
    >>> tx = inject(optax.sgd)(learning_rate=js.Linear(1.0, 0.0, 4), momentum=0.9)
    >>> params = {"w": jnp.ones(2)}
    >>> state = tx.init(params)
    >>> for _ in range(2):
    ...     updates, state = tx.update({"w": jnp.ones(2)}, state, params)
    >>> float(current(state)["learning_rate"])
    0.75
    """
    write = ". Write inject(optax.adam)(learning_rate=schedule), not inject(optax.adam(schedule))"
    checked_kind("inject(factory=...)", factory, Callable, FACTORY, write)
    _check_dtype(hyperparam_dtype)
    signature = inspect.signature(factory)
    name = _factory_name(factory)
    if misplaced or by_name:
        words = ", ".join([*("..." for _ in misplaced), *(f"{word}=..." for word in by_name)])
        raise TypeError(
            f"inject({name}, {words}) must be given the arguments of {name} in a second call: "
            f"js.inject({name})({words})."
        )
    given = [static_args] if isinstance(static_args, str) else static_args
    fixed = {*map(str, checked_items("inject(static_args=...)", given, "names of arguments"))}
    if not fixed <= set(signature.parameters):
        raise ValueError(
            f"inject(static_args=...) must name arguments of {name}, got "
            f"{sorted(fixed - set(signature.parameters))}; it has {list(signature.parameters)}."
        )

    @functools.wraps(factory)
    def build(*args: Any, **kwargs: Any) -> optax.GradientTransformationExtraArgs:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"inject({name})(...): {error}. Its arguments are {list(signature.parameters)}."
            ) from None
        bound.apply_defaults()
        sources = _scheduled_arguments(name, bound, fixed)
        register_export(list(sources.values()))
        rebuild = functools.partial(_rebuilt_optimizer, factory, bound)
        return _injected_optimizer(rebuild, sources, hyperparam_dtype)

    return build


def _check_dtype(dtype: DTypeLike) -> None:
    """Raises unless it is a floating dtype that JAX has in this mode."""
    try:
        is_floating = jnp.issubdtype(dtype, jnp.floating)
    except (TypeError, ValueError):  # no dtype, such as "bf16"
        is_floating = False
    if not is_floating:
        raise TypeError(f"inject(hyperparam_dtype=...) must be a floating dtype, got {dtype!r}.")
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ValueError(
            f"inject(hyperparam_dtype=...) must be a dtype that JAX has in this mode, got "
            f"{dtype!r}; call `jax.config.update('jax_enable_x64', True)` first."
        )


def _injected_optimizer(
    rebuild: Factory, sources: dict[str, Any], dtype: DTypeLike
) -> optax.GradientTransformationExtraArgs:
    """The optimizer; it reads its scheduled arguments from its state at each update."""
    # An optimizer of Optax closes over its hyperparameters: there is nothing to set from outside.
    # So each update makes a new one from the values in the state and runs it on the moments of the
    # last one. In a compiled step this happens while it is traced, and costs nothing later. There
    # is one condition: the structure of the inner state must not depend on the values.
    forwarder = Forwarder()

    def init(params: PyTree) -> InjectState:
        register_flax(list(sources.values()))
        state = _first_state(sources, dtype)
        # Nothing has been applied yet: these are the values of the first update.
        values = {k: state.value(k, state.schedules.get(k, s)) for k, s in sources.items()}
        return state._replace(values=values, inner_state=rebuild(values).init(params))

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        # The state decides, not this optimizer's original schedules: so a swapped one acts. Only an
        # opaque controller, which no state can hold, comes from `sources`.
        # The lines below see the count and the controllers from before this update: the metric
        # beside its gradients acts from the next update on.
        extra = with_forwarded(extra, updates)
        live = {k: state.schedules.get(k, s) for k, s in sources.items()}
        values = {k: state.value(k, s, **extra) for k, s in live.items()}
        updates, inner_state = forwarder.update(
            rebuild(values), updates, state.inner_state, params, **extra
        )
        reacted = {k: live[k].update(s, **extra) for k, s in state.controller_states.items()}
        old = (state.count, state.controller_states, state.values)
        new = (optax.safe_increment(state.count), reacted, values)
        # Every gate must have let it through, whichever is within the other.
        # A micro-batch that is only gathered, or a skipped one, is neither a step nor a report, as
        # under MultiSteps or apply_if_finite; and no value was applied.
        for before, after in zip(gates(state.inner_state), gates(inner_state), strict=True):
            done = passed(before, after, updates)
            new = jax.tree.map(functools.partial(jnp.where, done), new, old)
        count, reacted, values = new
        return updates, state._replace(
            count=count, values=values, controller_states=reacted, inner_state=inner_state
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _first_state(sources: dict[str, Any], dtype: DTypeLike) -> InjectState:
    """The state before its values and the optimizer's state are known."""
    # An opaque controller is a leaf, as 0 is; a pytree without leaves is not.
    schedules = {k: _widened(s, dtype) for k, s in sources.items() if not same_structure(s, 0)}
    states = {k: s.init() for k, s in sources.items() if _is_controller(s)}
    return InjectState(
        count=jnp.zeros((), jnp.int32),
        values={},
        schedules=donatable_copy(schedules),
        controller_states=donatable_copy(states),
        knobs={k: Override.untouched(dtype) for k in sources},
        inner_state=(),
    )


def _widened(source: PyTree, dtype: DTypeLike) -> PyTree:
    """``source`` with float64 numbers, if values are asked for in float64: it computes in them."""
    if jnp.dtype(dtype) != jnp.float64:
        return source
    # A state holds strong arrays, and a Python number would become a float32: 0.1 with an error of
    # 1.5e-9, which no arithmetic in float64 brings back. A float64 stays so.
    return jax.tree.map(
        lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x,
        source,
    )


def _rebuilt_optimizer(
    factory: Factory, bound: inspect.BoundArguments, values: dict[str, jax.Array]
) -> Transformation:
    """The factory's optimizer, from the bound arguments with ``values`` for the scheduled ones."""
    # They were bound once, so that each goes back where it came from: by place, by name, or into
    # the factory's own `**keywords`. A factory with positional-only arguments works as well.
    signature, arguments = bound.signature, dict(bound.arguments)
    for name, value in values.items():
        if name in signature.parameters:
            arguments[name] = like_python_number(value)
        else:  # one of **keywords
            keywords = {p.kind: word for word, p in signature.parameters.items()}[_KEYWORDS]
            arguments[keywords] = arguments[keywords] | {name: like_python_number(value)}
    bound = inspect.BoundArguments(signature, arguments)
    return factory(*bound.args, **bound.kwargs)


def like_python_number(value: jax.Array) -> jax.Array:
    """``value`` as a weak-typed array: times bfloat16 it is bfloat16, as 0.1 would be.

    So a scheduled hyperparameter never widens an update or a moment, and yet keeps its own digits
    wherever the optimizer computes with it alone (``1 - b2``, ``b2 ** count``).
    """
    # The other way round, a strong float32 rate times bfloat16 gradients would be float32 updates,
    # and Adam's first moment would change its dtype, with which no scan goes on.
    return jax.lax.full_like(jnp.asarray(0.0), value)


# ----------------------------------------------------------------------------- sorting arguments


def _scheduled_arguments(
    name: str, bound: inspect.BoundArguments, fixed: set[str]
) -> dict[str, Any]:
    """The arguments that are schedules; without any, the arguments that are JAX numbers."""
    # In this order: first the arguments that the user has excluded; then a forgotten call, which
    # would look like the user's own function; only then the schedules. A plain function does not
    # count as a schedule: it may as well be the mask of a weight decay.
    sources: dict[str, Any] = {}
    for argument, value in bound.arguments.items():
        parameter = bound.signature.parameters[argument]
        if argument in fixed:
            continue
        if said := uncalled(value):
            raise TypeError(
                f"inject({name})({argument}=...) must be a number or a schedule, got "
                f"{value.__name__}{said}. If {name} wants js.{value.__name__} itself, add "
                f"static_args={argument!r}."
            )
        if parameter.kind is parameter.VAR_KEYWORD:
            sources.update({k: v for k, v in value.items() if is_source(v) and k not in fixed})
        elif parameter.kind is parameter.VAR_POSITIONAL:
            if any(map(is_source, value)):
                raise TypeError(f"inject({name})(*{argument}): give schedules by keyword.")
        elif is_source(value):
            if not _takes_number(parameter):
                raise TypeError(
                    f"inject({name})({argument}=...) isn't a number and can't be scheduled, got "
                    f"{describe(value)}. If {name} wants the schedule itself, add "
                    f"static_args={argument!r}."
                )
            sources[argument] = value
    sources = sources or _jax_numbers(bound, fixed)
    if not sources:
        example = "lr" if "lr" in bound.arguments else "learning_rate"
        raise ValueError(
            f"inject({name})(...) must be given at least one schedule, got none. Give one, e.g. "
            f"{example}=js.Constant(0.1); a plain function is wrapped by js.from_fn."
        )
    return sources


def _jax_numbers(bound: inspect.BoundArguments, fixed: set[str]) -> dict[str, Constant]:
    """The arguments that are scalars of JAX, as the hyperparameters of a sweep's task are."""
    return {
        argument: Constant(value)
        for argument, value in bound.arguments.items()
        if argument not in fixed and isinstance(value, jax.Array) and value.ndim == 0
        if _takes_number(bound.signature.parameters[argument])
    }


def is_source(value: object) -> bool:
    return isinstance(value, AbstractSchedule) or _is_controller(value)


def _is_controller(value: object) -> bool:
    # Optax's StatefulSchedule protocol. A class has these methods too, but is not an instance.
    methods = (getattr(value, "init", None), getattr(value, "update", None), value)
    return not isinstance(value, type) and all(map(callable, methods))


def _takes_number(parameter: inspect.Parameter) -> bool:
    """Whether an argument takes numbers, as far as its default and annotation tell."""
    default = parameter.default
    if default is parameter.empty:
        return True
    if default is None:
        # sgd(momentum: float | None = None) takes numbers, adamw(mask: Any = None) doesn't.
        kinds = typing.get_args(parameter.annotation)
        return not kinds or float in kinds
    if isinstance(default, (bool, str, bytes)):  # a bool is an int, but `nesterov` is a flag
        return False
    return is_source(default) or isinstance(default, (int, float)) or hasattr(default, "dtype")


def _factory_name(factory: Callable[..., Any]) -> str:
    if isinstance(factory, functools.partial):
        return _factory_name(factory.func)
    return getattr(factory, "__name__", type(factory).__name__)
