"""Lines of a program of another library, as they are pasted. It loads no JAX, and runs nothing."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from jaxsched._text import describe, shorten
from jaxsched.names._expression import OPERATORS, Call, Reader, Word, dotted
from jaxsched.names._lookup import source_of
from jaxsched.names._sources import Entry


def _bounded_round(x: Any, digits: Any = None) -> Any:
    """For -999999999 digits of an integer Python would make a number of as many, for minutes."""
    return round(x, digits if digits is None else max(digits, -400))


ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{**OPERATORS, "**": math.pow, "int": int, "float": float, "round": _bounded_round},
    **{"min": min, "max": max, "math.ceil": math.ceil, "math.floor": math.floor},
}
LR = ("lr", "learning_rate")
RATE_FIRST = ("keras", "optax")  # of an optimizer; elsewhere it follows the parameters
_OPTIMIZERS = {
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "adan", "asgd"),
    *("decoupledadamw", "decoupledsgdw", "ftrl", "lamb", "lars", "lion", "muon", "nadam", "nadamw"),
    *("novograd", "radam", "rmsprop", "rprop", "sgd", "sm3", "sparseadam", "yogi", "lbfgs"),
    *("adam8bit", "adamw8bit", "adamaxw", "amsgrad", "fusedadam", "fusedsgd", "madgrad", "sgdw"),
}
_ASSIGN = {"delattr", "eval", "exec", "globals", "locals", "setattr", "vars"}  # to any name
_OF_GROUPS = {"initial_lr", "lr", "lr_mult", "lr_scale", "max_lr", "min_lr"}  # rates of their own
_NAMES = (ast.Attribute, ast.Name, ast.Subscript)


# For a day `convert` read whole programs, through functions, classes, loops and options. It took
# 1400 lines and was never sure: of 353 programs written as traps 73 were silently wrong, since
# nobody can list all the ways to change a rate. So the allowed kinds of lines are listed, and all
# else is refused.


class Placed(Word):
    """An expression with a value that only the program knows; messages show it with its line."""


class Lines(Reader):
    """The values that pasted lines give names, and the calls of the library in them.

    The lines run one after the other, as in Python: a name has the value that it was given last.
    So they may be imports, assignments to names, and calls of the library. Other lines (a loop, a
    function, a method of a list) may change a value unseen, and a function that gets a schedule or
    its optimizer may change its rate: such a line is refused.
    """

    def __init__(self, library: str, text: str, where: str, told: Mapping[str, Any]):
        super().__init__(where)
        self.library, self.told, self.unused = library, told, {*told}
        self.known: dict[str, Any] = {}
        self.calls: dict[int, tuple[Call, ast.expr]] = {}
        self._apart: list[tuple[ast.AST, set[str]]] = []  # unread expressions, the names in them
        self._held: set[str] = set()  # arguments of schedules: optimizers are often names only
        tree = _parsed_lines(text)
        self.shown, self.body = text, tree.body
        for each in ast.walk(tree):
            if isinstance(each, ast.NamedExpr):
                self._refuse(each)
        for line in self.body:
            self._read_line(line)
        # Last, since a line may give a schedule's optimizer to something unknown before or after
        # the schedule is made: `hook(opt); StepLR(opt, 3)` is refused as well.
        for node, names in self._apart:
            if (self._held - {""}) & names:
                self._refuse(node)

    @property
    def schedules(self) -> list[Call]:
        return [call for call, _ in self.calls.values() if self.source(call)]

    def source(self, call: Call) -> Entry | None:
        name = f"{self.library}.{call.bare}"  # timm.step is one, but scheduler.step is not
        return None if call.name.endswith(".step") and call.name != name else source_of(name)

    def rates(self, call: Call) -> list[Any]:
        """The rates in the call of an optimizer; an unknown optimizer's by keyword only."""
        # An optimizer that is in no list is known by `lr=` or `learning_rate=` alone: a place among
        # its positional arguments would be a guess.
        if self.source(call):
            return []
        place = 0 if self.library in RATE_FIRST else 1
        given = call.args[place : place + 1] if _is_optimizer(call) else ()
        return [*given, *(call.kwargs[x] for x in LR if call.kwargs.get(x) is not None)]

    def inner_schedules(self, of: Call | dict[Any, Any]) -> list[Call]:
        """The schedules in the arguments of a call or the values of a dict, at any depth."""
        found: list[Call] = []
        todo, seen = _parts_of(of), set[int]()
        while todo:
            x = todo.pop()
            if isinstance(x, Call) and x.name in ARITHMETIC:  # was looked into when it was read
                continue
            if isinstance(x, Call) and self.source(x):
                found.append(x)
            if id(x) not in seen:  # a list may stand in itself twice, again and again
                seen.add(id(x))
                todo += _parts_of(x)
        return found

    def text(self, call: Call) -> str:
        """How a call stands there, with its line."""
        return _placed(self.calls[id(call)][1])

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        """As ``Reader.value``, but with the user's ``values`` in place of their texts."""
        # An assignment in the text wins over `values`: they are for all other names.
        made = super().value(node, depth)
        text = (dotted(node) or ast.unparse(node)) if self.told else ""
        if isinstance(made, (Call, Word)) and text in self.told and text not in self.known:
            self.unused.discard(text)
            return self.told[text]
        if isinstance(made, Call):
            self.calls.setdefault(id(made), (made, node))
        computed = isinstance(made, dict) or getattr(made, "name", "") in ARITHMETIC
        if computed and self.inner_schedules(made):
            self._refuse(node)
        if isinstance(made, dict) and "params" in made and _OF_GROUPS & {*made}:
            self._refuse_groups(node)
        return made

    def call(self, node: ast.Call, inner: Any) -> Any:
        """A call with its arguments; it is refused if it may change a schedule that it gets."""
        name = self.word(node.func)
        if isinstance(name, Placed) and self.library == "fastai":  # a method of a learner
            name = Word(dotted(node.func))
        if isinstance(name, Placed) or not isinstance(name, Word):
            return self._unread(node)
        made = super().call(node, inner)
        if isinstance(made, dict):
            return made if name == "dict" else self._unread(node)
        # Three kinds of calls may get known values: an optimizer gets a schedule as its rate (in
        # Keras and Optax), a schedule gets schedules and optimizers, arithmetic gets numbers. Any
        # other call may change its arguments.
        made = dataclasses.replace(made, name=str(name))
        if _is_optimizer(made):
            rate = [*self.rates(made), None][0]
            own = self.library in RATE_FIRST and isinstance(rate, Call) and self.source(rate)
            if self.inner_schedules(made)[bool(own) :]:  # elsewhere than as its rate
                self._refuse(node)
        elif self.source(made):
            given = [*zip(node.args, made.args, strict=False)]
            given += [(x.value, made.kwargs[x.arg]) for x in node.keywords if x.arg]
            self._held |= {
                self._root_of(dotted(x)) for x, value in given if isinstance(value, (Call, Word))
            }
        elif made.name not in ARITHMETIC:
            self._unread(node)
        return made

    def word(self, node: ast.AST) -> Any:
        """The value of a name from the lines before, or the name itself."""
        # If `cfg` is only a name, `cfg.lr` stays `cfg.lr`. An index is looked up in a dict or list
        # of the lines; any other part of a value is not read.
        name = dotted(node)
        if name in self.known and not isinstance(node, ast.Subscript):
            return self.known[name]
        if not isinstance(node, _NAMES) or not name:
            return self._unread(node)
        if isinstance(node, ast.Name):
            return Word(name)
        base = self.word(node.value)
        if isinstance(base, (list, dict)) and isinstance(node, ast.Subscript):
            with contextlib.suppress(LookupError, TypeError):
                return base[ast.literal_eval(node.slice)]
        if isinstance(base, (Call, list, dict)):
            return self._unread(node)
        plain = isinstance(base, Word) and not isinstance(base, Placed)
        return Word(f"{base}{name[len(dotted(node.value)) :]}") if plain else _placed(node)

    def _read_line(self, line: ast.stmt) -> None:
        """Takes one line: an import, a name that is given a value, or a call."""
        if isinstance(line, (ast.Import, ast.ImportFrom)):
            for each in line.names:
                whole = isinstance(line, ast.Import) and not each.asname
                name = each.name.partition(".")[0] if whole else each.name
                if name == "*" and not all(isinstance(x, Word) for x in self.known.values()):
                    self._refuse(line)  # it may give them other values
                self.known[each.asname or name] = Word(name)
            return
        if isinstance(line, (ast.Expr, ast.Return)) and line.value:
            value = self.value(line.value)
            ours = not isinstance(value, (Call, Placed)) or self._holds(value)
            if not ours and len(self.body) > 1:
                self._refuse(line)
            return
        if not isinstance(line, (ast.Assign, ast.AnnAssign)):
            self._refuse(line)
        target, *more = line.targets if isinstance(line, ast.Assign) else [line.target]
        name = dotted(target)
        plain = re.fullmatch(r"(self\.)?(?!self$)\w+", name)
        if more or isinstance(target, ast.Subscript) or not plain:
            self._refuse(line)
        if line.value is not None:
            self.known[name] = self.value(line.value)

    def _unread(self, node: ast.AST) -> Placed:
        """An expression that is not read; it must not get any value that a schedule depends on."""
        # It is allowed if it makes no schedule, assigns no name unseen (`exec`, `setattr`), and
        # cannot change an argument of a schedule. All arguments of schedules are known only at the
        # end, so its names are kept until then.
        calls = [x for x in ast.walk(node) if isinstance(x, ast.Call)]
        inner = [Call(str(self.known.get(dotted(x.func), dotted(x.func)))) for x in calls]
        schedules = any(x is not node and self.source(y) for x, y in zip(calls, inner, strict=True))
        names = {*map(dotted, ast.walk(node))} - {""}
        if schedules or names & _ASSIGN or any(self._holds(self.known.get(x)) for x in names):
            self._refuse(node)
        if any(map(_is_group, ast.walk(node))):
            self._refuse_groups(node)
        if not dotted(node):  # a name alone changes nothing
            self._apart.append((node, {*map(self._root_of, names)}))
        return _placed(node)

    def _root_of(self, name: str) -> str:
        """A text for the object behind a name, the same for all names of one object."""
        # After `t = trainer` both `t.opt` and `trainer.opt` are "trainer.opt": two names of one
        # object. Known are names of one or two parts (`self.opt`).
        heads = (name, ".".join(name.split(".")[:2]), name.partition(".")[0])
        head = next((x for x in heads if isinstance(self.known.get(x), (Call, Word))), "")
        of = self.known.get(head, "")
        return f"{id(of) if isinstance(of, Call) else of}{name[len(head) :]}"

    def _holds(self, x: Any) -> bool:
        """Whether a change of this object from elsewhere could change a schedule."""
        held = isinstance(x, Call) and (self.source(x) or _is_optimizer(x))
        return bool(held) or isinstance(x, (list, dict))

    def _refuse_groups(self, node: Any) -> NoReturn:
        raise ValueError(
            f"{self.where} must have one rate, got groups of parameters with their own in line "
            f"{node.lineno}: convert without them, for each rate (lr=...)."
        )

    def _refuse(self, node: Any) -> NoReturn:
        raise ValueError(
            f"{self.where} must be a call of a schedule, with at most imports, names that are "
            f"given a value, and its optimizer, got `{_first_line(node)}` in line {node.lineno}: "
            "leave it out, or paste the call alone."
        )


def told_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The user's ``values``, with each text as the parser writes it."""
    values_of = {}
    where = "convert(values=...) must have names or calls, as in the text, of numbers,"
    for name, value in values.items():
        try:
            node = ast.parse(str(name), mode="eval").body
        except (SyntaxError, ValueError):
            raise ValueError(f"{where} texts or lists, got {name!r:.60}.") from None
        if not isinstance(value, (int, float, str, list, type(None))):
            raise ValueError(f"{where} texts or lists, got {describe(value)} for {name!r:.60}.")
        word = isinstance(value, Word)  # of the command: a text without quotes
        values_of[dotted(node) or ast.unparse(node)] = str(value) if word else value
    return values_of


def _parts_of(x: Any) -> list[Any]:
    """The parts of a call, a list or a dict."""
    if isinstance(x, Call):
        return [*x.args, *x.kwargs.values()]
    return [*x.values()] if isinstance(x, dict) else x if isinstance(x, list) else []


def _is_optimizer(call: Call) -> bool:
    return call.bare.lower() in _OPTIMIZERS


def _is_group(node: ast.AST) -> bool:
    """Whether it makes parameters with a rate of their own: `{**group, "lr": 1}` may."""
    # A dict of parameters has the key "params" or an unknown one (None: `**group`), and a rate;
    # `group | {"lr": 1}` and `dict(group, lr=1)` are the same.
    keys: set[Any] = set()
    for each in (node.left, node.right) if isinstance(node, ast.BinOp) else (node,):
        if isinstance(each, ast.Dict):
            keys |= {getattr(key, "value", None) for key in each.keys}
        if isinstance(each, ast.Call) and dotted(each.func) == "dict":
            keys |= {*(x.arg for x in each.keywords), *(None for _ in each.args)}
    more = isinstance(node, ast.BinOp) or not keys.isdisjoint({"params", None})
    return more and bool(keys & _OF_GROUPS)


def _first_line(node: ast.AST) -> str:
    return shorten(ast.unparse(node).partition("\n")[0])


def _placed(node: Any) -> Placed:
    return Placed(f"{_first_line(node)} (line {getattr(node, 'lineno', 1)})")


def _parsed_lines(text: str) -> ast.Module:
    """The lines of a text, also as they are copied from a console, a notebook or a function."""
    console, notebook = r"^ *(>>>|\.\.\.) ?", r"^ *(%%?[a-z]|!).*$"  # a prompt; a magic or a shell
    plain = re.sub(f"(?m){console}|{notebook}", "", text)
    for each in (text, plain):
        with contextlib.suppress(SyntaxError):
            return ast.parse(textwrap.dedent(each))
    first, _, rest = text.partition("\n")  # which was copied without its indentation
    return ast.parse(f"{first.strip()}\n{textwrap.dedent(rest)}")
