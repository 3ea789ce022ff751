"""The functions of a program are compiled side by side, before the first of them is called.

Compiling is most of a short sweep, and XLA does it without Python's lock. JAX keeps the executable
of a lowered function, and finds it at the first call with such arguments.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Lowered, Wrapped
from jax.typing import ArrayLike

from jaxsched._machine import usable_cores
from jaxsched._types import PyTree
from jaxsched.search.engine._ledger import Ledger
from jaxsched.search.engine._program import Program
from jaxsched.search.engine._settings import in_force
from jaxsched.search.tasks._process import uncollected


def compile_ahead(ledger: Ledger, programs: Iterable[Program], device: jax.Device) -> None:
    """Compiles the functions that the open runs of a ledger will call, on one device.

    The call itself raises an error suppressed here again, and the caller handles it.
    """
    enter, known, waiting = in_force(), set[Wrapped](), deque[Future[None]]()

    def compile_one(lowered: Lowered) -> None:
        with enter():
            lowered.compile()

    # Lowered one after another, under Python's lock; the first is compiled meanwhile.
    with ThreadPoolExecutor() as pool:
        calls = (_calls_of_open_runs(ledger, program, device) for program in programs)
        for function, arguments in chain.from_iterable(calls):
            if function not in known:  # several programs may have it; two threads would compile it
                known.add(function)
                with contextlib.suppress(Exception), uncollected():
                    waiting.append(pool.submit(compile_one, function.lower(*arguments)))
            if len(waiting) > usable_cores() + 1:  # a waiting task may hold a copy of the data
                wait([waiting.popleft()])


def _calls_of_open_runs(
    ledger: Ledger, program: Program, device: jax.Device
) -> Iterator[tuple[Wrapped, tuple[PyTree, ...]]]:
    """Functions with abstract arguments, the longest to compile first."""
    place = jax.sharding.SingleDeviceSharding(device)

    # The kinds must equal the kinds in the calls of `_engine.py`, with placement and weak types.
    # Otherwise JAX finds nothing, and compiles once more at the call.
    def on_device(tree: PyTree, *axes: int) -> PyTree:
        def abstract(x: ArrayLike) -> jax.ShapeDtypeStruct:
            shape = (*axes, *np.shape(x))
            return jax.ShapeDtypeStruct(shape, jnp.result_type(x), sharding=place)

        return jax.tree.map(abstract, tree)

    runs, shape = ledger.unfinished(), program.fold.shape
    if not runs:
        return
    lanes = (program.width,) if program.width > 1 else ()
    arrays, state = on_device(program.fold.arrays), on_device(shape.state, *lanes)
    alive = on_device(np.zeros((), bool), *lanes)
    values = on_device(np.float32(), *lanes, len(program.names), program.length)
    batches = on_device(shape.batch, *lanes, program.length)
    bounds = on_device((np.int32(), np.int32(), np.float32()))
    yield program.segment, (arrays, state, alive, values, batches, *bounds)
    if any(run.state is None for run in runs):
        yield program.init, (arrays, *on_device(program.start(0, device)))
    if ledger.plan.validation:
        yield program.evaluate, (arrays, state)
