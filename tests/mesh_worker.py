"""One of the processes of a sweep on a mesh: ``mesh_worker.py '{"processes": 2, "index": 0}'``.

The tests kill it.
"""

import json
import sys
import time

import jax

told = {
    "address": None,
    "processes": 1,
    "index": 0,
    "devices": 2,
    "heartbeat": 5,
    "directory": None,
    "out": None,
    "decay": 20,
    "pause": 0.0,
    **json.loads(sys.argv[1]),
}
jax.config.update("jax_num_cpu_devices", told["devices"])

from mesh_tasks import Wide, mesh_of_all  # noqa: E402

import jaxsched as js  # noqa: E402
from jaxsched import search  # noqa: E402
from jaxsched.search.engine import _engine  # noqa: E402

if told["address"]:
    search.join(
        told["address"],
        processes=told["processes"],
        index=told["index"],
        heartbeat=told["heartbeat"],
        patience=30,
    )

if told["pause"]:  # slow enough to be killed in the middle
    collect = _engine.Engine._collect

    def slow(self, *arguments):
        time.sleep(told["pause"])
        return collect(self, *arguments)

    _engine.Engine._collect = slow

mesh = mesh_of_all()


def sweep(directory=None):
    trials = [js.wsd(0.2, 60, warmup=5, decay=d) for d in (10, told["decay"])] + [js.Constant(1e30)]
    return search.sweep(
        Wide(mesh),
        trials,
        steps=60,
        evaluate_every=20,
        devices=mesh,
        checkpoint=directory,
        checkpoint_every=0.0,
    )


if told["out"]:  # the whole, in one go
    whole = sweep()
    whole.save(f"{told['out']}-{told['index']}.npz")
    print(search.final_score(Wide(mesh), whole, devices=mesh), flush=True)
result = sweep(told["directory"])
if told["out"]:
    result.save(f"{told['out']}-again-{told['index']}.npz")
print("trained", result.steps_trained, result.info["traces"], result.info["stored"], flush=True)
