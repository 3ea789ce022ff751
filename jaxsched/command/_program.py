"""A program as equations: each name has one value, or is a word that only the program knows.

Nothing runs, and the order of the lines does not count. Of

    config = {"n": 30}
    def build(model, n, rate=0.1):
        optimizer = SGD(model.parameters(), lr=rate)
        return optimizer, StepLR(optimizer, n)
    optimizer, scheduler = build(model, config["n"])

the value of ``scheduler`` is the call ``StepLR(SGD(..., lr=0.1), 30)``: a name has the value that
is bound to it, an argument what the calls of its function pass, a call of a function of the text
what it returns. What has two values, or none in the text (``model``), is a ``Word`` of its own. Two
nodes have the same value if their values are one object, by which ``Uses`` follows a schedule to
every line that has it.
"""

from __future__ import annotations

import ast
import collections
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsched._text import shorten
from jaxsched.command._nodes import (
    DEFINITION,
    FUNCTION,
    INLINE,
    PART,
    SCOPE,
    binds,
    called,
    default_of,
    head,
    is_changed,
    is_class,
    is_main,
    of_partial,
    parsed,
    part_name,
)
from jaxsched.command._options import are_given, defaults_in
from jaxsched.command._values import ARITHMETIC, Placed, Taken, is_plain, is_same, placed
from jaxsched.names._expression import Call, Reader, Word, dotted

# What is always run where the function around it is.
_STRAIGHT = (*DEFINITION, ast.Module, ast.With, ast.AsyncWith, ast.Try, ast.expr)
# What gives back what it is given, in its order or in that of DeepSpeed.
PASSES = ("initialize", "prepare", "prepare_optimizer", "prepare_scheduler", "setup")
_DEEPSPEED = ("model", "optimizer", "training_dataloader", "lr_scheduler")
_WRAPS = ("jit", "partial", "pmap")  # a function, which keeps its arguments
_ODD = ("__dict__", "__getattr__", "__getattribute__", "__setattr__")
_UNKNOWN: Any = ...


class Program(Reader):
    """The values of a program, or those it is ``told``; nothing of it runs."""

    def __init__(self, text: str, where: str, told: Mapping[str, Any]):
        super().__init__(where)
        self.tree = parsed(text)
        self.told, self.unused = told, {*told}
        self.spread: list[tuple[Any, Any]] = []  # calls with a literal dict
        self.nodes: dict[str, list[Any]] = collections.defaultdict(list)  # calls and stores by name
        self._bound: dict[Any, list[Any]] = collections.defaultdict(list)
        self._named: dict[Any, Any] = {}
        self._final: dict[int, Any] = {}  # of names, whose value was asked for by itself
        self._made: dict[ast.AST, Any] = {}
        self._words: dict[Any, Word] = {}  # of functions and classes
        self._defined: dict[int, list[Any]] = {}
        self._kept: list[Any] = []  # whose ids are to stay theirs
        self._odd: list[Any] = []  # what may give any attribute a value
        nodes = [*ast.walk(self.tree)]
        self.parents: Any = {x: node for node in nodes for x in ast.iter_child_nodes(node)}
        declared = {x for x in nodes if isinstance(x, (ast.Global, ast.Nonlocal))}
        outer = {(self.scope(x), y): type(x) for x in declared for y in x.names}
        for node in nodes:
            walrus = isinstance(self.parents.get(node), ast.NamedExpr)
            for name in binds(node):
                for scope in self.scopes(node):
                    form = outer.get((scope, name), ast.Global if name == "*" else None)
                    if form is not ast.Nonlocal and not (walrus and isinstance(scope, INLINE)):
                        break
                self._bound[self.tree if form else scope, name].append(node)
            up = self.parents.get(node)
            passed = getattr(node, "id", "") == "setattr" and getattr(up, "func", 0) is not node
            if passed or getattr(node, "attr", getattr(node, "name", "")) in _ODD:
                self._odd.append(node)
            if isinstance(node, ast.Call):
                self.nodes[called(node)].append(node)
                if called(node) == "setattr" and len(node.args) == 3:
                    self.nodes[f".{getattr(node.args[1], 'value', '')}"].append(node)
                    self._odd += [] if isinstance(node.args[1], ast.Constant) else [node]
            elif isinstance(node, PART) and not isinstance(node.ctx, ast.Load):
                self.nodes[f".{part_name(node)}"].append(node)
        self._options = defaults_in(self.nodes)
        for node in nodes:
            if isinstance(node, DEFINITION):
                self._word(node)

    def scopes(self, node: Any) -> Iterator[Any]:
        """What has names of its own around a node, from within."""
        while node is not self.tree:
            child, node = node, self.parents[node]
            if isinstance(child, (ast.expr, ast.keyword)) and isinstance(node, ast.arguments):
                child, node = node, self.parents[node]  # a default
            elif isinstance(node, SCOPE) and not (
                isinstance(child, (ast.expr, ast.keyword)) and isinstance(node, DEFINITION)
            ):
                yield node
        yield self.tree

    def scope(self, node: Any) -> Any:
        """The innermost of ``scopes``."""
        return next(self.scopes(node))

    def value(self, node: Any, depth: int = 0) -> Any:
        if self.told and (text := dotted(node) or ast.unparse(node)) in self.told:
            self.unused.discard(text)
            return self.told[text]
        if isinstance(node, (ast.NamedExpr, ast.Await)):
            return self.value(node.value, depth)
        if isinstance(node, (ast.Name, ast.arg, *PART)):
            return self.word(node)
        if node not in self._made:
            keys = [self.value(x) if x else x for x in getattr(node, "keys", ())]
            odd = any(isinstance(x, Word) or not isinstance(x, (str, int, float)) for x in keys)
            self._made[node] = self.word(node) if odd else super().value(node, depth)
        return self._made[node]

    def call(self, node: ast.Call, inner: Any) -> Any:
        word = self.value(node.func)
        if self.classes(word):
            return word
        if id(word) in self._defined:
            value = self.returned(self.function(node))
            return inner(value) if value else self.word(node)
        if word != dotted(node.func) or isinstance(word, Placed) or self._is_another(node.func):
            return self.word(node)
        if called(node) in (*PASSES, "vars") and len(node.args) == 1 and not node.keywords:
            return inner(node.args[0])
        whole = called(node) != "partial" or len(node.args) == 1
        if node.args and called(node) in _WRAPS and whole and self.function(node, node.args[0]):
            return self.value(node.args[0])
        made: Call = super().call(node, inner)
        spread = [self.value(x.value) for x in node.keywords if not x.arg]
        if spread and all(isinstance(x, dict) for x in spread):
            self.spread += [(node, x) for x in spread]
            known = {k: v for x in spread for k, v in x.items()}
            return Call(made.name, made.args[: -len(spread)], {**made.kwargs, **known})
        return made

    def _is_another(self, node: Any) -> bool:
        """Whether the text gives a known name to something else, as an import may."""
        first = dotted(node).partition(".")[0]
        if dotted(node) not in (first, *ARITHMETIC):  # of a module, whose name does not count
            return False
        bound = next((y for x in self.scopes(node) if (y := self._bound.get((x, first)))), [])
        return any(getattr(x, "name", "").rpartition(".")[2] != first for x in bound)

    def word(self, node: Any) -> Any:
        """The value of a name, or of a part of what has one."""
        name, base, key = getattr(node, "arg", "") or dotted(node), None, None
        if isinstance(node, (ast.Name, ast.arg)):
            scopes = [x for i, x in enumerate(self.scopes(node)) if not (i and is_class(x))]
            key = next(((x, name) for x in scopes if (x, name) in self._bound), (None, name))
        elif isinstance(node, PART) and part_name(node) is not None:
            base = self.value(node.value)
            key = (id(base), part_name(node))
        if key is None or not (name or isinstance(base, (Call, list, dict))):
            return self._named.setdefault(node, placed(Word(head(node)), [node]))
        if key not in self._named:
            made = self._named[key] = Word(name or head(node))
            binders = self._binders(key, base)
            value = self._settled(binders, made)
            if base is not None:
                before = self._within(base, part_name(node), made, node)
                if value is made:
                    value = before
                elif before is not made and not is_same(getattr(before, "value", before), value):
                    value = placed(made, binders)
                odd = self._odd if isinstance(node, ast.Attribute) and is_plain(value) else []
                if is_plain(value) or isinstance(value, (Taken, list, dict)):
                    stores = self.nodes[f".{part_name(node)}"]
                    owners = [(x, self._owner(x)) for x in stores]
                    other = [(x, y) for x, y in owners if isinstance(y, Placed) or y is not base]
                    odd = odd + [x for x, y in other if self.is_unknown(y)]
                if odd:
                    value = placed(made, odd)
            self._named[key] = self._final[id(made)] = value
            self._kept.append((made, base))
        value = self._named[key]
        while (final := self._final.get(id(value), value)) is not value:
            value = final
        return value

    def _owner(self, store: Any) -> Any:
        """The value whose part is stored, by an assignment or a call of setattr."""
        return self.value(getattr(store, "value", 0) or store.args[0])

    def _binders(self, key: Any, base: Any) -> list[Any]:
        if base is not None:
            binders = [x for x in self.nodes[f".{key[1]}"] if self._owner(x) is base]
            classes = self._defined.get(id(base), ())
            updates = [*self.nodes["update"], *self.nodes[".None"]]
            for x in updates if classes or isinstance(base, Call) else ():
                owner = getattr(x, "value", 0) or getattr(x.func, "value", x)
                binders += [x] if self.value(owner) is base else []
            for x in classes:
                binders += self._bound.get((x, key[1]), ())
                if is_class(x) and (x, "__init__") not in self._bound:  # a dataclass
                    binders += [y for y in self.nodes[x.name] if y.args or y.keywords]
                    binders += [y for y in self.nodes["replace"] if y.keywords]
            return binders
        binders = [*self._bound.get(key, ())]
        stars = self._bound.get((self.tree, "*"), ()) if key[0] is self.tree else ()
        return binders + [x for x in stars if x.lineno > binders[0].lineno]

    def _settled(self, binders: list[Any], word: Word) -> Any:
        """The one value that a name is given, itself aside."""
        values: list[Any] = []
        for x in binders if not all(isinstance(x, ast.alias) for x in binders) else ():
            for value in self._given(x, word):
                if value is _UNKNOWN or (values and not is_same(values[0], value, word)):
                    return placed(word, binders)
                values = [value] if value is not word else values
        return values[0] if values else word

    def _given(self, node: Any, word: Word) -> list[Any]:
        """The values that a node gives a name."""
        if isinstance(node, ast.arg):
            return self._passed_to(node, word)
        if isinstance(node, DEFINITION):
            return [self._word(node)]
        path: list[tuple[int, int]] = []
        up = None if isinstance(node, ast.Call) else self.parents.get(node)
        while isinstance(up, (ast.Tuple, ast.List)):
            path.insert(0, (up.elts.index(node), len(up.elts)))
            node, up = up, self.parents[up]
        if not isinstance(up, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            return [_UNKNOWN]
        are_options = isinstance(up.value, ast.Call) and called(up.value) == "parse_args"
        if not are_options and not self._always(up):
            return [_UNKNOWN]
        value: Any = up.value
        for place, count in path:
            value = value and self.part(value, place, count)
        return [self.value(value) if value else _UNKNOWN]

    def part(self, node: Any, place: int, count: int) -> Any:
        """The node of one of the values that a node has, which are so many."""
        if isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == count:
            return None if any(isinstance(x, ast.Starred) for x in node.elts) else node.elts[place]
        if not isinstance(node, ast.Call):
            return None
        if returned := self.returned(self.function(node)):
            return self.part(returned, place, count)
        named = [x.value for x in node.keywords if x.arg in _DEEPSPEED[place : place + 1]]
        if called(node) in PASSES and (named or place < len(node.args)):
            return [*named, *node.args[place:]][0]
        return node if called(node) == "parse_known_args" and place == 0 else None

    def _always(self, node: Any) -> bool:
        """Whether a statement runs, once, where its function does."""
        while not isinstance(node, (*DEFINITION, ast.Module)):
            node = self.parents[node]
            if not isinstance(node, _STRAIGHT) and not is_main(node):
                return False
        return True

    def _within(self, base: Any, name: Any, word: Word, node: Any) -> Any:
        """A value of a literal list or dict, or of the options of a command."""
        known = base.value if isinstance(base, Taken) else base
        if isinstance(known, Call) and name in known.kwargs and known.name.endswith("Namespace"):
            return known.kwargs[name]
        if not isinstance(known, (list, dict)):
            values = [self.value(x) if isinstance(x, ast.AST) else x for x in self._options[name]]
            if isinstance(base, Placed) or not values:
                return word
            alike = all(is_same(values[0], x) for x in values)
            given = are_given(self.nodes, self.value) or not alike
            return Placed(word) if given else Taken(word, values[0])
        places = range(len(known)) if isinstance(known, list) else known
        if not isinstance(node, ast.Subscript) or name not in places:
            return Placed(f"{word} (line {node.lineno})")
        value = known[name]
        inner = None if base is not known else known
        return Taken(word, value, inner) if is_plain(value) else value

    def _word(self, node: Any) -> Word:
        """That of a function or a class, also for what is made of it and of those based on it."""
        if node not in self._words:
            word = self._words[node] = Word(node.name)
            bases = [self.value(x) for x in getattr(node, "bases", ()) if dotted(x)]
            word = self._words[node] = next((x for x in bases if id(x) in self._defined), word)
            self._defined.setdefault(id(word), []).append(node)
        return self._words[node]

    def is_function(self, word: Any) -> bool:
        return id(word) in self._defined and not self.classes(word)

    def is_unknown(self, value: Any) -> bool:
        """Whether it may be any object, of the text, too."""
        defined = id(value) in self._defined
        return isinstance(value, Word) and not getattr(value, "container", None) and not defined

    def classes(self, value: Any) -> list[Any]:
        """Those of the text that have made a value."""
        return [x for x in self._defined.get(id(value), ()) if is_class(x)]

    def function(self, call: ast.Call, node: Any = None) -> Any:
        """The one of the text that is called, or ``None``."""
        word = self.value(node or of_partial(call))
        known = self._defined.get(id(word), [])
        if self.classes(word):
            known = [y for x in known for y in self._bound.get((x, "__init__"), [])]
        found = known[0] if len(known) == 1 else None
        return found if isinstance(found, FUNCTION) and not is_changed(found) else None

    def is_of(self, node: Any, owner: Any) -> bool:
        """Whether an attribute may be that of a class of the text."""
        base = self.value(node.value)
        above = isinstance(base, Call) and base.name == "super"
        return is_class(owner) and (above or owner in self.classes(base))

    def value_of(self, function: Any) -> Any:
        return self._word(function) if isinstance(function, DEFINITION) else None

    def called_by(self, function: Any) -> list[ast.Call]:
        """The calls of a function of the text."""
        names = [getattr(function, "name", "")]
        if names == ["__init__"] and is_class(self.parents[function]):
            made = self._word(self.parents[function])
            names += [x.name for x in self._defined.get(id(made), ())]
        return [x for y in names for x in self.nodes[y] if self.function(x) is function]

    def returned(self, function: Any) -> Any:
        """The node of the one value that a function returns."""
        nodes = [x for x in ast.walk(function) if isinstance(x, ast.Return)] if function else []
        nodes = [x for x in nodes if self.scope(x) is function]
        return nodes[0].value if len(nodes) == 1 and self._always(nodes[0]) else None

    def passed(self, call: ast.Call, function: Any, arg: ast.arg) -> Any:
        """The node of an argument of a call: its default, ``None`` or ``...`` if it is unknown."""
        args = function.args
        places = [*args.posonlyargs, *args.args]
        given = [x.value for x in call.keywords if x.arg == arg.arg]
        spread = any(isinstance(x, ast.Starred) for x in call.args)
        if arg in places and not spread:
            place = places.index(arg) + (of_partial(call) is not call.func)
            place -= self._is_method(function)
            given += call.args[place : place + 1] if place >= 0 else []
        spread |= arg in (args.vararg, args.kwarg) or any(x.arg is None for x in call.keywords)
        default = _UNKNOWN if spread else default_of(arg, args)
        return given[0] if given else default

    def _is_method(self, function: Any) -> bool:
        fixed = [dotted(x) for x in getattr(function, "decorator_list", ())]
        return is_class(self.parents[function]) and "staticmethod" not in fixed

    def _passed_to(self, arg: ast.arg, word: Word) -> list[Any]:
        function = self.parents[self.parents[arg]]
        places = [*function.args.posonlyargs, *function.args.args]
        if arg in places[:1] and self._is_method(function):
            return [self._word(self.parents[function])]
        calls = self.called_by(function)
        nodes = [self.passed(x, function, arg) for x in calls]
        default = default_of(arg, function.args)
        if not calls and default:  # of a function that others call
            named = [
                x for x in self.nodes[getattr(function, "name", "")] if isinstance(x.func, ast.Name)
            ]
            return [_UNKNOWN if named else Taken(word, self.value(default))]
        return [self.value(x) if isinstance(x, ast.AST) else _UNKNOWN for x in nodes]

    def text(self, value: Any) -> str:
        """How a call stands in the program, with its line."""
        node: Any = next((k for k, x in self._made.items() if x is value), None)
        return f"{shorten(head(node))} (line {node.lineno})" if node else f"{value.name}(...)"
