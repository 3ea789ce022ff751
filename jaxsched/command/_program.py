"""A program as equations: each name has one value, or is a word that only the program knows."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

from jaxsched._text import shorten
from jaxsched.names._expression import Call, Reader, Word, dotted

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
# Methods which leave alone what has them, and functions which only read.
_METHODS = {
    *("evaluate", "fit", "get_last_lr", "init", "predict", "state_dict", "step", "step_update"),
    *("summary", "update", "zero_grad"),
}
# Of Keras, those that leave the rate alone.
_CALLBACKS = ("CSVLogger", "EarlyStopping", "ModelCheckpoint", "TensorBoard", "TerminateOnNaN")
_READERS = ("len", "max", "min", "print", "sum")
_NAMES = ("eval", "exec", "globals", "locals")  # which may give any name another value
_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What keeps the values that stand in it as they are.
_KEEPS = (
    *(ast.Module, ast.Return, ast.Expr, ast.Attribute, ast.Subscript, ast.Name),
    *(ast.List, ast.Tuple, ast.Dict, ast.keyword, ast.JoinedStr, ast.FormattedValue),
)


class Placed(Word):
    """What only the program knows and is told with its line, since it is not a name alone."""


class Program(Reader):
    """The values of a program, whatever the order of its lines; nothing of it runs."""

    def __init__(self, text: str, where: str):
        super().__init__(where)
        self.tree = _parsed(text)
        self.given: dict[str, list[Any]] = {}  # by a name what gives it a value
        self._named: dict[str, Any] = {}
        self._made: dict[ast.AST, Any] = {}
        seen: set[ast.AST] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.arg, *_DEFINITION)):
                name = node.arg if isinstance(node, ast.arg) else node.name
                self.given.setdefault(name, []).append(node)
            elif isinstance(node, ast.stmt):
                for x in {*ast.walk(node)} - seen:
                    if isinstance(getattr(x, "ctx", None), (ast.Store, ast.Del)) and dotted(x):
                        seen.add(x)
                        value = getattr(node, "value", None) if x in _targets(node) else node
                        self.given.setdefault(dotted(x), []).append(value)

    def value(self, node: Any, depth: int = 0) -> Any:
        if node not in self._made:
            self._made[node] = super().value(node, depth)
        return self._made[node]

    def call(self, node: ast.Call, inner: Any) -> Any:
        return self.word(node) if dotted(node.func) in self.given else super().call(node, inner)

    def word(self, node: Any) -> Any:
        name = dotted(node)
        if not name:
            return Placed(f"{_first(node)} (line {node.lineno})")
        if name not in self._named:
            self._named[name] = Word(name)
            given = self.given.get(name, [])
            values = [x for x in given if not isinstance(x, (ast.arg, *_DEFINITION))]
            part = not isinstance(node, ast.Name) and isinstance(
                self.word(node.value), (list, dict)
            )
            if part or (values and (len(given) > 1 or isinstance(values[0], ast.stmt))):
                lines = ", ".join(map(str, sorted({x.lineno for x in given or [node]})))
                self._named[name] = Placed(f"{name} (line {lines})")
            elif values:
                self._named[name] = self.value(values[0])
        return self._named[name]

    def check(self, schedule: Call, own: dict[int, Any], rate_first: bool) -> None:
        """Raises where a part of a schedule stands in what may change it; ``own`` are its parts."""
        steps: list[Any] = [
            x
            for x in ast.walk(self.tree)
            if isinstance(x, ast.Call) and isinstance(x.func, ast.Attribute)
            if x.func.attr == "step"
        ]
        own_steps = [x for x in steps if self.value(x.func.value) is schedule]
        measures = any(x in repr(schedule).lower() for x in ("greedy", "plateau"))
        skip = {*own_steps[1:], *_left_out(self.tree, steps, own_steps[:1])}
        skip |= {x for x in own_steps if not measures and self._computes(x)}
        both = {x for x in ast.walk(self.tree) if _steps_both(x, steps, own_steps)}
        held, count = dict(own), -1
        while count < len(held):  # until no further name has a value that holds one
            count = len(held)
            for node in ast.walk(self.tree):
                line: Any = node
                if node in both:
                    line = line.test
                if node in skip or not self._leaves(line, own, held, rate_first):
                    raise ValueError(
                        f"{self.where} must leave {schedule.name}(...), its optimizer and their "
                        f"lists as they are made, got `{shorten(_first(node))}` in line "
                        f"{line.lineno}: leave it out if it does not touch the rate, or write into "
                        "the calls what it changes."
                    )

    def _computes(self, step: ast.Call) -> bool:
        """Whether the epoch that a step is given is another than a training counts."""
        for node in [*step.args[:1], *(x.value for x in step.keywords if x.arg in (None, "epoch"))]:
            x = self.value(node)
            if isinstance(x, Call) or not dotted(node):
                operator, terms = (x.name, x.args) if isinstance(x, Call) else ("", ())
                return not (operator == "+" and 1 in terms)
        return False

    def _leaves(self, node: Any, own: dict[int, Any], held: dict[int, Any], first: bool) -> bool:
        def holds(node: Any) -> bool:
            if isinstance(node, ast.Call) and _called(node) in (*_METHODS, *_READERS):
                return False  # which is a call of its own
            seen = [x for x in ast.walk(node) if isinstance(x, ast.Call) or dotted(x)]
            return any(id(self.value(x)) in held for x in seen)

        def hands(node: Any, tells: Any = (*_METHODS, *_READERS)) -> bool:  # not only its rate
            if isinstance(node, ast.Call) and _called(node) in tells:
                return False
            rate = isinstance(node, ast.Subscript) and getattr(node.slice, "value", "") == "lr"
            if rate and isinstance(node.ctx, ast.Load):
                return False
            known = isinstance(node, ast.Call) or dotted(node)
            found = known and id(self.value(node)) in held
            return found or any(hands(x, tells) for x in ast.iter_child_nodes(node))

        names: list[Any] = []
        if isinstance(node, _DEFINITION):
            if not isinstance(node, ast.ClassDef) and holds(node.args):
                return False
            names = [ast.Name(node.name)] if holds(node) else []
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names = _targets(node) if node.value and hands(node.value) else []
            changed = [
                getattr(x, "value", x) for x in _targets(node) if not isinstance(x, ast.Name)
            ]
            if any(map(holds, changed)) or not all(map(dotted, names)):
                return False
        elif isinstance(node, (ast.For, ast.While)) and not node.orelse:  # of a training
            head = [node.target, node.iter] if isinstance(node, ast.For) else [node.test]
            makes = any(
                isinstance(x, ast.Call) and id(self.value(x)) in own for x in ast.walk(node)
            )
            steps = len(node.body) == 1 and isinstance(node.body[0], ast.Expr) and holds(node)
            return not (makes or steps or any(map(holds, head)))  # alone, it would step before
        elif not isinstance(node, ast.Call):
            return isinstance(node, _KEEPS) or not hands(node, ("get_last_lr", "state_dict"))
        elif id(self.value(node)) not in own:
            name, on = _called(node), getattr(node.func, "value", None)
            places = dict(enumerate(node.args)) | {x.arg: x.value for x in node.keywords}
            given = [place for place, x in places.items() if hands(x)]
            others = [self.value(x) for place, x in places.items() if [place] != given]
            if dotted(node.func) in _NAMES:
                return False
            listed = self.value(places["callbacks"]) if "callbacks" in places else []
            quiet = isinstance(listed, list) and all(id(x) in own or _logs(x) for x in listed)
            if on and name == "fit" and quiet and given in ([], ["callbacks"]):
                pass
            elif on and name == "compile" and given in ([0], ["optimizer"]):
                names = [on]
            elif name in ("step", "unscale_") and given == [0]:  # of a scaler of gradients
                x = self.value(node.args[0])
                last = x.name.rpartition(".")[2].lower() if isinstance(x, Call) else ""
                return isinstance(x, Word) or last in OPTIMIZERS
            elif given and name not in (*_READERS, "dict"):
                rated = name.lower() in OPTIMIZERS and given in ([0], ["learning_rate"])
                chained = name == "chain" and len(given) == 1 and all(map(_beside, others))
                return first and (rated or chained)
            elif holds(node.func):
                numbers = name == "step" and any(isinstance(x, (int, float)) for x in others)
                made = on and (name != "update" or isinstance(self.value(on), Call))
                return name in _METHODS and bool(made) and "callbacks" not in places and not numbers
        held |= {id(x): x for x in map(self.value, names)}
        return True


def _left_out(tree: Any, steps: list[Any], own: list[Any]) -> set[Any]:
    """What goes on without the schedule's step, but not without the optimizer's."""
    found: set[Any] = set()
    for loop in [x for x in ast.walk(tree) if isinstance(x, (ast.For, ast.While))]:  # inner last
        nodes: set[Any] = {*ast.walk(loop)}
        turns = {x for x in nodes if isinstance(x, ast.Continue)}
        found -= turns
        for step in nodes.intersection(own):
            others = [x.lineno for x in nodes.intersection(steps) if x is not step]
            after = max(others, default=0)
            found |= {x for x in turns if after < x.lineno < step.lineno}
    return found


def _steps_both(node: ast.AST, steps: list[Any], own: list[Any]) -> bool:
    """Whether it is a condition of an update, of the schedule and the optimizer alike."""
    body = node.body if isinstance(node, ast.If) and not node.orelse else []
    here = [x.value for x in body if isinstance(x, ast.Expr) and x.value in steps]
    return any(x in own for x in here) and any(x not in own for x in here)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", dotted(node.func))


def _targets(node: ast.AST) -> list[Any]:
    """The names of ``name = value``."""
    if isinstance(node, ast.AnnAssign):
        return [node.target] if node.value else []
    return node.targets if isinstance(node, ast.Assign) else []


def _logs(x: Any) -> bool:
    return isinstance(x, Call) and x.name.rpartition(".")[2] in _CALLBACKS


def _beside(x: Any) -> bool:
    name = x.name.rpartition(".")[2] if isinstance(x, Call) else ""
    return name in _BESIDE or (name == "scale" and x.args in ((-1,), (-1.0,)))


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(textwrap.dedent(text))
    except IndentationError:  # lines of which the first was copied without its indentation
        return ast.parse("\n".join(line.strip() for line in text.splitlines()))


def _first(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0]
