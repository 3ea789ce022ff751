"""Where a schedule goes in a program: into what leaves it as it is made, or nowhere."""

from __future__ import annotations

import ast
import collections
from typing import Any

from jaxsched._text import shorten
from jaxsched.command._nodes import (
    FUNCTION,
    LOAD,
    LOOP,
    called,
    head,
    is_changed,
    is_class,
    is_main,
    listed,
    part_name,
    place,
)
from jaxsched.command._others import REACHES, STEPS, check_unknown, follow_named
from jaxsched.command._program import PASSES, Program
from jaxsched.command._values import Placed
from jaxsched.names._expression import Call, Word, dotted

# Whose rate is the first argument, or, in those of PyTorch, follows the parameters.
OPTIMIZERS = {
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "adan", "asgd"),
    *("ftrl", "lamb", "lars", "lion", "muon", "nadam", "nadamw", "novograd", "radam", "rmsprop"),
    *("rprop", "scale_by_learning_rate", "scale_by_schedule", "sgd", "sm3", "sparseadam", "yogi"),
}
# Of a chain, beside the one that has the rate.
_BESIDE = {
    *("adaptive_grad_clip", "add_decayed_weights", "clip", "clip_by_global_norm", "identity"),
    *("scale_by_adam", "scale_by_lion", "scale_by_rms", "scale_by_trust_ratio", "trace"),
}
# Methods which leave alone what has them.
_METHODS = {
    *("apply_gradients", "build", "compile", "eval", "exclude_from_weight_decay", "get_last_lr"),
    *("get_lr", "init", "state_dict", "step", "train", "update", "zero_grad"),
}
_OF_DICTS = {"copy", "get", "items", "keys", "values"}
# Functions which only read, and those whose value has what they are given.
_READERS = {
    *("__init__", "bool", "callable", "float", "free_memory", "hasattr", "id", "int", "isinstance"),
    *("len", "max", "min", "print", "register_for_checkpointing", "repr", "str", "sum", "super"),
}
_CARRIERS = {*PASSES, "dict", "enumerate", "list", "reversed", "tuple", "type", "vars", "zip"}
# What keeps an optimizer or a schedule, and where.
_KEEPERS = {
    **{"ModelAndOptimizer": (1, "tx"), "Optimizer": (1, "tx"), "create": ("tx",)},
    "Trainer": ("optimizers", "schedulers"),
}
# Of Keras, those that leave the rate alone; and by what one of the text could reach it.
_CALLBACKS = (
    *("BackupAndRestore", "CSVLogger", "EarlyStopping", "History", "ModelCheckpoint"),
    *("TensorBoard", "TerminateOnNaN", "WandbMetricsLogger", "WandbModelCheckpoint"),
)
# Which may give any name another value.
_NAMES = ("eval", "exec", "gc.get_objects", "globals", "locals", "sys.modules", "vars")
_WITHIN = (ast.Await, ast.Dict, ast.List, ast.Starred, ast.Tuple)
_ENDS = (ast.Compare, ast.Expr, ast.FormattedValue)


class Uses:
    """Follows a schedule, its optimizer and their lists through a program.

    Raises where one of them stands in what may change it. ``own`` are the parts of the schedule, of
    which those in ``schedules`` are stepped, and ``containers`` have values that it was made with.
    ``notes`` say what is assumed.
    """

    def __init__(
        self,
        program: Program,
        own: Any,
        schedules: Any,
        containers: Any,
        rate_first: bool,
        names: Any,
    ):
        self.program, self.own, self.rate_first = program, own, rate_first
        self.names = {*names, "base_lrs", "initial_lr", "last_epoch", "lr"}
        self.schedule: Call = schedules[0]
        self.notes: dict[str, None] = {}
        self.steps: list[Any] = []
        self.idle: list[Any] = []  # what of timm steps another kind of schedule
        self.updates: list[Any] = []
        self.called: dict[Any, None] = {}  # where it is a function, which no optimizer calls
        self.compiled: list[Any] = []
        self.rated = False
        self.done: set[Any] = set()
        # As what a value is followed: its methods differ.
        self.containers = {id(x) for x in containers}
        self.held = dict.fromkeys(self.containers, "dict") | dict.fromkeys(own, "optimizer")
        self.held |= {i: "theirs" for i, x in own.items() if isinstance(x, (dict, list))}
        self.held |= {id(x): "theirs" for x in schedules[1:]} | {id(schedules[0]): "schedule"}
        nodes: dict[int, list[Any]] = collections.defaultdict(list)
        for node in ast.walk(program.tree):
            name = dotted(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""
            if name in _NAMES and program.is_unknown(program.value(node)):
                up: Any = program.parents[node]
                if name != "vars" or getattr(up, "func", 0) is not node or not up.args:
                    self.refuse(up if getattr(up, "func", 0) is node else node)
            added = isinstance(program.parents.get(node), ast.AugAssign)
            if isinstance(node, ast.expr) and (
                isinstance(getattr(node, "ctx", LOAD), ast.Load) or added
            ):
                nodes[id(program.value(node))].append(node)
        self.nodes = nodes
        follow_named(self)
        seen: set[int] = set()
        while new := self.held.keys() - seen:
            seen |= new
            for node in sorted((x for i in new for x in nodes[i]), key=place):
                self.follow(node, self.held[id(program.value(node))])
        check_unknown(self)
        for x in self.called if not self.rated else ():
            self.note(f"A step is what it is called with: `{shorten(head(x))}`.")
        self._check_made(min(nodes[id(self.schedule)], key=lambda x: not isinstance(x, ast.Call)))

    def calls(self, function: Any) -> list[Any]:
        """Those of a function of the text, which must not be used otherwise."""
        program, name = self.program, getattr(function, "name", "")
        if name == "__init__" or not isinstance(function, FUNCTION):
            return program.called_by(function)
        if is_changed(function) or (name[:2] == "__" and name[-2:] == "__"):
            self.refuse([*function.decorator_list, function][0])
        found, word = [], program.value_of(function)
        loads = [x for x in ast.walk(program.tree) if getattr(x, "attr", "") == name]
        loads = [x for x in loads if program.is_of(x, program.parents[function])]
        for x in sorted({*self.nodes[id(word)], *loads}, key=place):
            up: Any = program.parents[x]
            calls = isinstance(up, ast.Call) and up.func is x and program.value(x) is word
            if calls or (isinstance(up, ast.Call) and program.function(up) is function):
                found.append(up)
            elif not isinstance(up, ast.Assign) and up not in self.nodes[id(word)]:
                self.refuse(up)
        return found

    def refuse(self, node: Any, else_: str = "write into the calls what it changes") -> Any:
        store = not isinstance(getattr(node, "ctx", LOAD), ast.Load)
        while not hasattr(node, "lineno") or (store and not isinstance(node, ast.stmt)):
            node = self.program.parents[node]
        raise ValueError(
            f"{self.program.where} must leave {self.schedule.name}(...), its optimizer and their "
            f"lists as they are made, got `{shorten(head(node))}` in line {node.lineno}: "
            f"leave it out if it does not touch the rate, or {else_}."
        )

    def follow(self, node: Any, kind: str, part: Any = None) -> None:
        """Where the value of a node goes: if it is a tuple, that part of it, of so many."""
        if (node, kind, part) in self.done:
            return
        self.done.add((node, kind, part))
        up = self.program.parents[node]
        above = self.program.parents.get(up)
        targets = getattr(up, "targets", None) or [getattr(up, "target", None)]
        if kind in ("holder", "model"):  # what has it as an attribute, or Keras has compiled
            last = getattr(up, "attr", "") if kind == "model" else ""
            if isinstance(up, ast.keyword) or node in getattr(up, "args", ()):
                self._pass(above if isinstance(up, ast.keyword) else up, node, kind, part)
            elif last == "optimizer" and isinstance(up.ctx, ast.Load):
                self.follow(up, "optimizer")
            elif last == "optimizer":
                self.refuse(above)
            elif last == "fit" and isinstance(above, ast.Call):
                self._check_callbacks(above)
            elif last == "compile" and above not in self.compiled:
                self.refuse(above)
        elif isinstance(up, (ast.Attribute, ast.Subscript)):
            self._follow_part(node, up, kind, part)
        elif isinstance(up, (ast.Tuple, ast.List)):
            self.follow(up, kind, (up.elts.index(node), len(up.elts)))
        elif isinstance(up, _WITHIN):
            self.follow(up, kind)
        elif isinstance(up, (ast.Assign, ast.AnnAssign)):
            self._bind(targets, kind, part, up)
        elif isinstance(up, (ast.For, ast.comprehension)) and up.iter is node:
            self._bind(targets, kind, None, up)
        elif isinstance(up, ast.Return):
            for call in self.calls(self.program.scope(up)):
                self.follow(call, kind, part)
        elif isinstance(up, ast.Call) and up.func is node:  # one of Optax is a function
            if kind != "schedule" or not self.rate_first:
                self.refuse(up)
            self.called[up] = None
        elif isinstance(up, (ast.Call, ast.keyword)):
            self._pass(above if isinstance(up, ast.keyword) else up, node, kind, part)
        elif not (isinstance(up, _ENDS) or getattr(up, "test", None) is node):
            self.refuse(up)

    def _follow_part(self, node: Any, up: Any, kind: str, part: Any) -> None:
        call: Any = self.program.parents[up]
        last, method = part_name(up), isinstance(call, ast.Call) and call.func is up
        if kind == "dict" and last is not None:  # each value that is asked for has been seen
            same = id(self.program.value(node)) in self.containers
            if method and last in _OF_DICTS:
                self.follow(call, kind)
            elif method or not (
                isinstance(up, ast.Subscript) if same else isinstance(up.ctx, ast.Load)
            ):
                self.refuse(call)
            elif isinstance(self.program.value(up), (Placed, dict, list)):
                self.follow(up, kind)
        elif not isinstance(up.ctx, ast.Load) or getattr(up, "slice", None) is node:
            self.refuse(up)
        elif method and last == "load_state_dict":
            text = shorten(head(call))
            self.note(f"It is assumed that `{text}` loads a state of this program.")
        elif method and last == "fit":
            self._check_callbacks(call)
        elif method and last in STEPS and kind in ("schedule", "theirs"):
            if kind == "theirs":
                self.refuse(call)
            counts = last == STEPS[self.schedule.kwargs.get("t_in_epochs") is False]
            (self.steps if counts else self.idle).append(call)
        elif method:
            if last == "step":
                self.updates.append(call)
            made = last != "update" or isinstance(self.program.value(node), Call)
            if last == "init" and self.rate_first:
                self._check_made(call)
            kept = getattr(self.program.parents[call], "targets", [None])[0]
            made &= not dotted([None, *getattr(kept, "elts", ())][-1] or call).startswith("_")
            if last not in _METHODS or not made:
                self.refuse(call)
        elif last == "lr" and isinstance(up, ast.Subscript):
            return
        elif part is None or not isinstance(last, int) or last % part[1] == part[0]:
            self.follow(up, "optimizer" if last == "optimizer" else kind)

    def _bind(self, targets: list[Any], kind: str, part: Any, up: Any) -> None:
        for x in targets:
            if isinstance(x, (ast.Tuple, ast.List)):
                one = part is not None and part[1] == len(x.elts)
                self._bind([x.elts[part[0]]] if one else x.elts, kind, None, up)
            elif not dotted(x):
                self.refuse(up)
            elif isinstance(value := self.program.value(x), (Word, Call, list, dict)):
                turns = isinstance(up, (ast.For, ast.comprehension))
                if self.held.setdefault(id(value), kind) != kind and turns:
                    self.refuse(up)
                if isinstance(x, (ast.Attribute, ast.Subscript)):
                    self.held.setdefault(id(self.program.value(x.value)), "holder")

    def _pass(self, call: Any, node: Any, kind: str, part: Any) -> None:
        """A value that is an argument."""
        program, name, on = self.program, called(call), getattr(call.func, "value", None)
        places = dict(enumerate(call.args)) | {x.arg: x.value for x in call.keywords}
        at = next((i for i, x in places.items() if x is node), None)
        up: Any = program.parents[call]
        each = program.value(places.get("step_schedulers_every_batch", ast.Constant(True)))
        sparse = at == "schedulers" and (None in places or each is not True)
        keeps = at in _KEEPERS.get(name, ()) and not sparse
        if keeps and at == "optimizers" and isinstance(pair := program.value(places[at]), list):
            keeps = not any(isinstance(x, Call) and id(x) not in self.held for x in pair)
        inner: Any = [x for x in program.scopes(call) if is_class(x)] if name == "__init__" else ()
        bases = [dotted(x) for y in inner for x in y.bases]
        if any(x.endswith(("LR", "Scheduler")) for x in bases):  # another schedule's
            self.refuse(call)
        if id(program.value(call)) in self.own or (name in _READERS and "key" not in places):
            return
        if function := program.function(call):
            if name == "compile":  # in place of Keras' own
                self.refuse(call)
            for arg in [x for x in ast.walk(function.args) if isinstance(x, ast.arg)]:
                if program.passed(call, function, arg) is node:
                    self.held.setdefault(id(program.value(arg)), kind)
                    return
        elif name in _CARRIERS:
            if name == "prepare" and kind == "schedule":
                self.note("Accelerate steps it as often as there are processes; this is of one.")
            split = [x.elts for x in getattr(up, "targets", ()) if isinstance(x, ast.Tuple)]
            for i, x in enumerate(split[0] if name in PASSES and split else ()):
                if program.part(call, i, len(split[0])) is node:
                    self._bind([x], kind, None, up)
            if name not in PASSES or not split:
                self.follow(call, kind, part)
            return
        elif kind == "dict":
            self.note(f"It is assumed that `{shorten(head(call))}` changes none of its values.")
            return
        elif keeps:
            return self._check_made(call)
        elif kind == "holder" and name in ("fit", "test", "validate"):
            return
        elif name == "fit" and at == "callbacks" and on:
            return self._check_callbacks(call)
        elif name == "compile" and at in (0, "optimizer") and on:
            self.held[id(program.value(on))] = "model"
            self.compiled.append(call)
            return
        elif name in ("step", "unscale_", "clip_grad_norm_") and at == 0 and kind == "optimizer":
            if name == "step":
                self.updates.append(call)
            return
        elif self.rate_first and kind != "holder" and not isinstance(node, ast.Starred):
            others = [program.value(x) for i, x in places.items() if i != at]
            last = str(program.value(call.func)).rpartition(".")[2].lower()
            rated = last in OPTIMIZERS and at in (0, "learning_rate")
            self.rated = self.rated or rated
            if rated and "gradient_accumulation_steps" in places:
                self.note("Keras counts each batch as a step of it, also where it accumulates.")
            if rated or (name == "chain" and all(map(_beside, others))):
                return self.follow(call, "optimizer")
        self.refuse(call)

    def _check_callbacks(self, call: Any) -> None:
        given = [self.program.value(x.value) for x in call.keywords if x.arg in ("callbacks", None)]
        if given and isinstance(given[0], list):
            self.held.setdefault(id(given[0]), "optimizer")
            given = given[0]
        for x in given:
            nodes = [y for made in self.program.classes(x) for y in ast.walk(made)]
            inner = [y for y in nodes if not isinstance(self.program.parents[y], ast.Attribute)]
            names = {getattr(y, "attr", "") for y in nodes} & REACHES
            names |= {getattr(y, "attr", "") for y in inner} & {"model"}
            own = nodes and not names
            known = isinstance(x, Call) and x.bare in _CALLBACKS
            if not (own or known or id(x) in self.own):
                self.refuse(call)

    def kind(self, node: Any) -> str:
        """As what the value of a node is followed, or ""."""
        return self.held.get(id(self.program.value(node)), "")

    def note(self, text: str) -> None:
        self.notes[text] = None

    def _check_made(self, node: Any) -> None:
        """Raises if it is made in a loop; a condition of it is told."""
        while not isinstance(node, ast.Module):
            child, node = node, self.program.parents[node]
            if isinstance(node, (*LOOP, ast.comprehension, ast.ListComp)):
                self.refuse(node)
            told = isinstance(node, (ast.If, ast.IfExp)) and not is_main(node)
            if told and child is not node.test:
                word = "if" if child in listed(node, "body") else "unless"
                self.note(f"It is made only {word} `{shorten(ast.unparse(node.test))}`.")


def _beside(x: Any) -> bool:
    name = x.bare if isinstance(x, Call) else ""
    return name in _BESIDE or (name == "scale" and x.args in ((-1,), (-1.0,)))
