"""A sweep in a process of its own: ``sweep_worker.py DIRECTORY OUT [KIND] [DEVICES] [PAUSE]``.

The tests kill it. It prints a line when it begins to train.
"""

import signal
import sys
import time

import jax

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
directory, out = sys.argv[1:3]
kind = sys.argv[3] if len(sys.argv) > 3 else "plain"
devices = int(sys.argv[4]) if len(sys.argv) > 4 else 1
pause = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
jax.config.update("jax_num_cpu_devices", devices)

from sweep_tasks import Plain  # noqa: E402

import jaxsched as js  # noqa: E402
from jaxsched import search  # noqa: E402
from jaxsched.search.engine import _engine, _plan  # noqa: E402

_plan.LENGTH = 64

if pause:  # slow enough to be killed in the middle
    collect = _engine.Engine._collect

    def slow(self, *arguments):
        time.sleep(pause)
        return collect(self, *arguments)

    _engine.Engine._collect = slow

trials = [
    *(js.wsd(0.1, 400, warmup=20, decay=d) for d in (50, 100, 200)),
    *(js.Constant(rate) for rate in (0.01, 0.03, 1.5)),
]
arguments = {
    "plain": {},
    "halving": {"stopping": search.SuccessiveHalving(first=100, eta=2)},
    "wide": {"width": 3},
}[kind]
print("ready", flush=True)
result = search.sweep(
    Plain(),
    trials,
    steps=400,
    seeds=2,
    evaluate_every=100,
    checkpoint=None if directory == "none" else directory,
    checkpoint_every=0.0,
    **arguments,
)
result.save(out)
print("trained", sum(result.info["traces"].values()), result.steps_trained, flush=True)
