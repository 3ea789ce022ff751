"""Where a schedule goes in a program: into what leaves it as it is made, or nowhere."""

from __future__ import annotations

import ast
import collections
from typing import Any

from jaxsched._text import shorten
from jaxsched.command import _program as p
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
    *("get_lr", "init", "state_dict"),
    *("step", "step_update", "train", "update", "zero_grad"),
}
_OF_DICTS = {"copy", "get", "items", "keys", "values"}
# Functions which only read, and those whose value has what they are given.
_READERS = {
    *(
        "__init__",
        "bool",
        "callable",
        "free_memory",
        "hasattr",
        "id",
        "isinstance",
        "len",
        "max",
        "min",
    ),
    *("print", "register_for_checkpointing", "repr", "str", "sum", "super", "type"),
}
_CARRIERS = {*p.PASSES, "dict", "enumerate", "list", "reversed", "tuple", "vars", "zip"}
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
_REACHES = {"compile", "learning_rate", "lr", "optimizer"}
_NAMES = ("eval", "exec", "globals", "locals")  # which may give any name another value
_WITHIN = (ast.Await, ast.Dict, ast.List, ast.Starred, ast.Tuple)
_ENDS = (ast.Assert, ast.Compare, ast.Expr, ast.FormattedValue, ast.If, ast.IfExp, ast.While)
_COMPUTES = (ast.BinOp, ast.Call, ast.IfExp, ast.UnaryOp)


class Uses:
    """Follows a schedule, its optimizer and their lists through a program.

    Raises where one of them stands in what may change it. ``own`` are the parts of the schedule, of
    which those in ``schedules`` are stepped, and ``containers`` have values that it was made with.
    """

    def __init__(
        self, program: p.Program, own: Any, schedules: Any, containers: Any, rate_first: bool
    ):
        self.program, self.own, self.rate_first = program, own, rate_first
        self.schedule: Call = schedules[0]
        self.notes: dict[str, None] = {}
        self.steps: list[Any] = []
        self.compiled: list[Any] = []
        self.done: set[Any] = set()
        # As what a value is followed: its methods differ.
        self.held = {id(x): "dict" for x in containers} | dict.fromkeys(own, "optimizer")
        self.held |= {id(x): "schedule" for x in schedules}
        nodes: dict[int, list[Any]] = collections.defaultdict(list)
        for node in ast.walk(program.tree):
            names = isinstance(node, ast.Call) and dotted(node.func) in _NAMES
            if names and not program.function(node):  # type: ignore[arg-type]
                self.refuse(node)
            if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", p.LOAD), ast.Load):
                nodes[id(program.value(node))].append(node)
        optimizers = [i for i in own if self.held[i] == "optimizer"]
        self.made = {x for i in optimizers for x in nodes[i] if isinstance(x, ast.Call)}
        seen: set[int] = set()
        while new := self.held.keys() - seen:
            seen |= new
            for node in sorted((x for i in new for x in nodes[i]), key=_place):
                self.follow(node, self.held[id(program.value(node))])
        self._check_steps()
        self._check_made(min(nodes[id(self.schedule)], key=lambda x: not isinstance(x, ast.Call)))

    def refuse(self, node: Any) -> Any:
        while not hasattr(node, "lineno"):
            node = self.program.parents[node]
        raise ValueError(
            f"{self.program.where} must leave {self.schedule.name}(...), its optimizer and their "
            f"lists as they are made, got `{shorten(p.first(node))}` in line {node.lineno}: leave "
            "it out if it does not touch the rate, or write into the calls what it changes."
        )

    def follow(self, node: Any, kind: str, part: Any = None) -> None:
        """Where the value of a node goes: if it is a tuple, that part of it, of so many."""
        if (node, kind, part) in self.done:
            return
        self.done.add((node, kind, part))
        up = self.program.parents[node]
        above = self.program.parents.get(up)
        targets = getattr(up, "targets", None) or [getattr(up, "target", None)]
        if kind == "rate":  # a number, which matters where a function makes it a schedule again
            if isinstance(up, (ast.Return, ast.Lambda)):
                self.refuse(up)
            if isinstance(up, _COMPUTES):
                self.follow(up, kind)
            elif isinstance(up, ast.Assign) and all(isinstance(x, ast.Name) for x in targets):
                self._bind(targets, kind, None, up)
        elif kind in ("holder", "model"):  # what has it as an attribute, or Keras has compiled
            last = getattr(up, "attr", "") if kind == "model" else ""
            if isinstance(up, ast.keyword) or node in getattr(up, "args", ()):
                self._pass(above if isinstance(up, ast.keyword) else up, node, kind, part)
            elif last == "optimizer":
                self.follow(up, "optimizer")
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
        elif isinstance(up, ast.NamedExpr):
            self._bind(targets, kind, part, up)
            self.follow(up, kind, part)
        elif isinstance(up, ast.Return):
            for call in self.program.called_by(next(self.program.scopes(up))):
                self.follow(call, kind, part)
        elif isinstance(up, ast.Call) and up.func is node:  # one of Optax is a function
            if kind != "schedule" or not self.rate_first:
                self.refuse(up)
            self.follow(up, "rate")
        elif isinstance(up, (ast.Call, ast.keyword)):
            self._pass(above if isinstance(up, ast.keyword) else up, node, kind, part)
        elif isinstance(up, ast.IfExp) and up.test is not node:
            self.follow(up, kind)
        elif not isinstance(up, _ENDS) and not isinstance(getattr(up, "op", None), ast.Not):
            self.refuse(up)

    def _follow_part(self, node: Any, up: Any, kind: str, part: Any) -> None:
        call: Any = self.program.parents[up]
        last, method = p.last(up), isinstance(call, ast.Call) and call.func is up
        if kind == "dict" and last is not None:  # each value that is asked for has been seen
            if method and last not in _OF_DICTS:
                self.refuse(call)
        elif not isinstance(up.ctx, ast.Load) or getattr(up, "slice", None) is node:
            while not isinstance(up, ast.stmt):
                up = self.program.parents[up]
            self.refuse(up)
        elif method and last == "load_state_dict":
            text = shorten(p.first(call))
            self._note(f"It is assumed that `{text}` loads a state of this program.")
        elif method and last == "fit":
            self._check_callbacks(call)
        elif method and last == "step" and kind == "schedule":
            self.steps.append(call)
        elif method:
            made = last != "update" or isinstance(self.program.value(node), Call)
            if last not in _METHODS or not made:
                self.refuse(call)
        elif last == "lr" and isinstance(up, ast.Subscript):
            return
        elif part is None or not isinstance(last, int) or last % part[1] == part[0]:
            self.follow(up, kind)

    def _bind(self, targets: list[Any], kind: str, part: Any, up: Any) -> None:
        for x in targets:
            if isinstance(x, (ast.Tuple, ast.List)):
                one = part is not None and part[1] == len(x.elts)
                self._bind([x.elts[part[0]]] if one else x.elts, kind, None, up)
            elif not dotted(x):
                self.refuse(up)
            elif isinstance(value := self.program.value(x), (Word, Call, list, dict)):
                self.held.setdefault(id(value), kind)
                if isinstance(x, (ast.Attribute, ast.Subscript)):
                    self.held.setdefault(id(self.program.value(x.value)), "holder")

    def _pass(self, call: Any, node: Any, kind: str, part: Any) -> None:
        """A value that is an argument."""
        program, name, on = self.program, p.called(call), getattr(call.func, "value", None)
        places = dict(enumerate(call.args)) | {x.arg: x.value for x in call.keywords}
        place = next((i for i, x in places.items() if x is node), None)
        up: Any = program.parents[call]
        keeps = place in _KEEPERS.get(name, ()) and "scale_schedule_ratio" not in places
        if id(program.value(call)) in self.own or name in _READERS:
            return
        if function := program.function(call):
            for arg in [x for x in ast.walk(function.args) if isinstance(x, ast.arg)]:
                if program.passed(call, function, arg) is node:
                    self.held.setdefault(id(program.value(arg)), kind)
                    return
        elif name in _CARRIERS:
            if name == "prepare" and kind == "schedule":
                self._note("Accelerate steps it as often as there are processes; this is of one.")
            split = [x.elts for x in getattr(up, "targets", ()) if isinstance(x, ast.Tuple)]
            for i, x in enumerate(split[0] if name in p.PASSES and split else ()):
                if program.part(call, i, len(split[0])) is node:
                    self._bind([x], kind, None, up)
            if name not in p.PASSES or not split:
                self.follow(call, kind, part)
            return
        elif kind == "dict":
            self._note(f"It is assumed that `{shorten(p.first(call))}` changes none of its values.")
            return
        elif keeps or (kind == "holder" and name in ("fit", "test", "validate")):
            return
        elif name == "fit" and place == "callbacks" and on:
            return self._check_callbacks(call)
        elif name == "compile" and place in (0, "optimizer") and on:
            self.held[id(program.value(on))] = "model"
            self.compiled.append(call)
            return
        elif name in ("step", "unscale_", "clip_grad_norm_") and place == 0 and kind == "optimizer":
            return
        elif self.rate_first and kind != "holder" and not isinstance(node, ast.Starred):
            others = [program.value(x) for i, x in places.items() if i != place]
            last = str(program.value(call.func)).rpartition(".")[2].lower()
            rated = last in OPTIMIZERS and place in (0, "learning_rate")
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
            names = {getattr(y, "attr", "") for y in nodes} & _REACHES
            names |= {getattr(y, "attr", "") for y in inner} & {"model"}
            own = nodes and not names
            known = isinstance(x, Call) and x.name.rpartition(".")[2] in _CALLBACKS
            if not (own or known or id(x) in self.own):
                self.refuse(call)

    def _note(self, text: str) -> None:
        self.notes[text] = None

    def _check_steps(self) -> None:
        """Raises where it is not stepped in one place, again and again."""
        measures = any(x in repr(self.schedule).lower() for x in ("greedy", "plateau"))
        for i, step in enumerate(sorted(self.steps, key=_place)):
            numbers = any(isinstance(self.program.value(x), (int, float)) for x in step.args)
            if i or numbers or (not measures and self._computes(step)):
                self.refuse(step)
            self._check_way(step, measures)

    def _computes(self, step: ast.Call) -> bool:
        """Whether the epoch that a step is given is another than a training counts."""
        for x in step.keywords:
            if x.arg is None:
                return True
        for node in [*step.args[:1], *(x.value for x in step.keywords if x.arg == "epoch")]:
            x = self.program.value(node)
            if isinstance(x, Call) or not dotted(node):
                return not (isinstance(x, Call) and x.name == "+" and 1 in x.args)
        return False

    def _check_way(self, step: Any, measures: bool) -> None:
        """Raises where the way from a training's loop to a step has another, or a condition."""
        node, origin, alone, seen = step, step, True, set()
        while node not in seen and not isinstance(node, (ast.Module, *p.LOOP)):
            seen.add(node)
            child, node = node, self.program.parents[node]
            body = [x for x in _listed(node, "body") if not _is_text(x)]
            alone = alone and not (child in body and len(body) > 1)
            if isinstance(node, p.FUNCTION):
                calls = self.program.called_by(node)
                if len(calls) > 1:
                    self.refuse(calls[1])
                origin = node = [*calls, node][0]
            elif isinstance(node, p.LOOP):
                if alone or node.orelse:
                    self.refuse(node)
            elif isinstance(node, ast.If):
                if not measures and (child not in body or not self._holds_for_both(node)):
                    self.refuse(node)
            elif isinstance(
                node,
                (ast.ExceptHandler, ast.IfExp, ast.Lambda, ast.BoolOp, ast.Match, ast.ListComp),
            ):
                self.refuse(node)
        inner: list[Any] = [x for x in ast.walk(node) if isinstance(node, p.LOOP)]
        ends = [x for x in inner if isinstance(x, ast.Call) and p.called(x) == "step"]
        last = max((x.lineno for x in ends if x.lineno < origin.lineno), default=0)
        for x in inner:  # what goes on without a step, but not without an update
            turns = isinstance(x, ast.Continue) and self._loop(x) is node
            if turns and last < x.lineno < origin.lineno:
                self.refuse(x)

    def _loop(self, node: Any) -> Any:
        while not isinstance(node, (*p.LOOP, *p.DEFINITION, ast.Module)):
            node = self.program.parents[node]
        return node

    def _holds_for_both(self, node: ast.If) -> bool:
        """Whether a condition is that of an update, too, or asks only if there is a schedule."""
        test: Any = node.test
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot):
            test = test.left
        if p.is_main(node) or self.held.get(id(self.program.value(test))) == "schedule":
            return True
        if isinstance(test, ast.UnaryOp) and "optimizer_step_was_skipped" in dotted(test.operand):
            return True
        loop = self._loop(node)
        own = {*ast.walk(loop.target)} if isinstance(loop, ast.For) else set()
        names = [x for x in {*ast.walk(loop)} - own if isinstance(x, ast.Name)]
        stored = {x.id for x in names if isinstance(x.ctx, ast.Store)}
        for x in ast.walk(loop):
            same = isinstance(x, ast.If) and ast.dump(x.test) == ast.dump(node.test)
            read = {getattr(y, "id", "") for y in ast.walk(node.test)}
            nodes = [z for y in _listed(x, "body") for z in ast.walk(y) if same]
            steps = [y for y in nodes if isinstance(y, ast.Call) and p.called(y) == "step"]
            if (x is node or not read & stored) and {*steps} - {*self.steps}:
                return True
        return False

    def _check_made(self, node: Any) -> None:
        """Raises if it is made again and again; a condition of it is told."""
        while not isinstance(node, ast.Module):
            child, node = node, self.program.parents[node]
            if isinstance(node, (*p.LOOP, ast.comprehension, ast.ListComp)):
                if not self.rate_first and not {*ast.walk(node)} & self.made:
                    self.refuse(node)
                self._note(f"It is made anew in each turn of `{shorten(p.first(node))}`.")
            branches = isinstance(node, (ast.If, ast.IfExp)) and not p.is_main(node)
            if branches and child is not node.test:
                word = "if" if child in _listed(node, "body") else "unless"
                self._note(f"It is made only {word} `{shorten(ast.unparse(node.test))}`.")


def _place(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _listed(node: Any, name: str) -> list[Any]:
    value = getattr(node, name, [])
    return value if isinstance(value, list) else [value]


def _is_text(x: Any) -> bool:
    return isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)


def _beside(x: Any) -> bool:
    name = x.name.rpartition(".")[2] if isinstance(x, Call) else ""
    return name in _BESIDE or (name == "scale" and x.args in ((-1,), (-1.0,)))
