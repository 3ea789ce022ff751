"""What may change the rate of any object of a program: by its name alone, whatever it is.

``Uses`` follows what is known to be the schedule or its optimizer. Here is the rest: an object that
the text does not tell, such as what a framework gives back, may be one of them.
"""

from __future__ import annotations

import ast
from typing import Any

from jaxsched._text import shorten
from jaxsched.command._nodes import LOAD, PART, called, head, part_name
from jaxsched.command._values import Placed
from jaxsched.names._expression import Call, dotted

STEPS = ("step", "step_update")  # of epochs, and of updates in timm
REACHES = {"compile", "learning_rate", "lr", "optimizer"}  # by what code could reach the rate
# What frameworks keep them in, and what gives them back in Lightning.
_THEIRS = {"lr_scheduler_configs": "theirs", "optimizers": "optimizer", "param_groups": "optimizer"}
_THEIRS |= dict.fromkeys(("_schedulers", "lr_schedulers", "schedulers"), "theirs")
_CALLED = {"lr_schedulers": "schedule", "optimizers": "optimizer"}
# What puts another one there.
_KEPT = {"lr_scheduler", "opt_state", "optimizer", "optimizers", "schedulers", "tx"}
_SCHEDULES = ("schedule", "theirs")
_REGISTRY = "TYPE_TO_SCHEDULER_FUNCTION"  # of Transformers
_CHANGES: dict[str, set[Any]] = {
    "fit": {"optimizers", "reset_time", "schedulers", "step_schedulers_every_batch"},
    "Trainer": {"scale_schedule_ratio"},
    "replace": {"optimizer", "tx"},
    "set_hyper": {...},
    "set_hypers": {...},
    "tree_set": {"count"},
}


def follow_named(uses: Any) -> None:
    """Follows what is an optimizer or a schedule by its name."""
    made = {x.bare for x in uses.own.values() if isinstance(x, Call)} | {_REGISTRY}
    nodes: Any = ast.walk(uses.program.tree)
    for node in nodes:
        name = part_name(node) if isinstance(node, PART) else None
        up: Any = uses.program.parents.get(node)
        loaded = isinstance(getattr(node, "ctx", LOAD), ast.Load)
        if isinstance(node, ast.Call):
            given: set[Any] = {x.arg for x in node.keywords} | {...}
            if given & _CHANGES.get(called(node), set()):
                uses.refuse(node)
            if called(node) == "replace" and "opt_state" in given:
                uses.note(f"It is assumed that `{shorten(head(node))}` keeps the steps.")
            if called(node) in _CALLED and not node.args:
                uses.follow(node, _CALLED[called(node)])
        elif name in REACHES and getattr(node.value, "attr", "") == "optimizer":
            uses.follow(node.value, "optimizer")
        elif name is not None and not loaded:
            if {name, dotted(node.value).rpartition(".")[2]} & made:  # of a class or a module
                uses.refuse(node)
        elif name in _THEIRS and not (isinstance(up, ast.Attribute) or _is_called(node, up)):
            uses.follow(node, _THEIRS[name])  # and no module


def check_unknown(uses: Any) -> None:
    """Raises at a change of what may be one of them, or that gives another object one."""
    program = uses.program
    stores = [
        (x, getattr(program.parents[x], "value", None) or x)
        for y in program.nodes.values()
        for x in y
    ]
    holders = [x for x, new in stores if isinstance(x, PART) and uses.kind(new) in _SCHEDULES]
    kept = {part_name(x) for x in holders}
    nodes: Any = ast.walk(program.tree)
    for node in nodes:
        call, new = isinstance(node, ast.Call), None
        if call and called(node) == "setattr" and len(node.args) == 3:
            owner, new = node.args[0], node.args[2]
            name = getattr(node.args[1], "value", None)
        elif isinstance(node, PART) and not isinstance(node.ctx, ast.Load):
            owner, name, new = node.value, part_name(node), program.parents[node]
            new = getattr(new, "value", None)
        elif call and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, called(node)
        else:
            continue
        value = program.value(owner)
        if id(value) in uses.held or not program.is_unknown(value):
            known = new is None or uses.kind(new) or isinstance(new, ast.Constant)
            refused = name in _KEPT and not program.classes(value) and not known
        elif call and name in STEPS:
            last = dotted(owner).rpartition(".")[2]
            hook = getattr(program.scope(node), "name", "") == "lr_scheduler_step"  # of Lightning
            refused = "sched" in last.lower() or not last or last in kept or hook
        elif call and name == "compile":
            refused = bool(isinstance(value, Placed) and uses.compiled)
        else:
            names = {name}
            while isinstance(owner, PART):
                names.add(part_name(owner))
                owner = owner.value
            made: Any = program.value(owner)
            bound = not isinstance(owner, ast.Name) or isinstance(made, Placed)
            bound = bound or "optimizers" in getattr(made, "kwargs", ())  # a Trainer
            refused = new is not None and names & (_KEPT | uses.names) and bound
        if refused:
            uses.refuse(node, "add what tells its object, such as the call of its function")


def _is_called(node: Any, up: Any) -> bool:
    return isinstance(up, ast.Call) and up.func is node
