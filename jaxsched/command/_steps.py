"""When a schedule is stepped in a program: with each update, or once in several."""

from __future__ import annotations

import ast
from typing import Any

from jaxsched._text import shorten
from jaxsched.command._nodes import (
    DEFINITION,
    FUNCTION,
    INLINE,
    LOOP,
    called,
    head,
    is_main,
    listed,
    place,
)
from jaxsched.command._uses import Uses
from jaxsched.names._expression import dotted

# What runs a part of itself only sometimes, or again and again.
_ODD = (ast.ExceptHandler, ast.IfExp, ast.Lambda, ast.BoolOp, ast.Match, *INLINE)
_NUMBERS = ("epoch", "metric", "metrics", "num_updates")  # what a step is given


class Steps:
    """Raises where a schedule is not stepped in one place, each time that a loop goes round.

    ``interval`` is "step" where each turn of that loop has one update of the optimizer, "epoch"
    where it has a loop of them, and "" where the text has no update.
    """

    def __init__(self, uses: Uses):
        self.uses, self.program, self.interval = uses, uses.program, ""
        self.near: set[Any] = set()  # the ways of updates to the loop of the step
        self.conditions: list[Any] = []  # on them
        self.seen: set[Any] = set()
        if uses.idle and not uses.steps:
            uses.refuse(uses.idle[0])
        measures = any(x in repr(uses.schedule).lower() for x in ("greedy", "plateau"))
        for i, step in enumerate(sorted(uses.steps, key=place)):
            if i or any(x.arg not in _NUMBERS for x in step.keywords):
                uses.refuse(step)
            if _epoch(step) and not measures:
                if called(step) == "step" and not _counts(_epoch(step)):
                    uses.refuse(step)
                uses.note(f"Its step is `{shorten(ast.unparse(_epoch(step)))}`.")
            way = self._way(step, measures)
            if isinstance(way[-1], (*LOOP, *FUNCTION)):
                self._compare(step, way, measures)

    def _way(self, step: Any, measures: bool) -> list[Any]:
        """What is around a step, up to a training's loop; raises at another, or at a condition."""
        node, origin, alone, way = step, step, True, [step]
        while not isinstance(node, (ast.Module, *LOOP)):
            child, node = node, self.program.parents[node]
            body = [x for x in listed(node, "body") if not _is_text(x)]
            alone = alone and not (child in body and len(body) > 1)
            if isinstance(node, FUNCTION):
                self._check_skips(node, origin)
                calls = self.uses.calls(node)
                if len(calls) > 1 or {*calls} & {*way}:
                    self.uses.refuse(calls[-1])
                if not calls:
                    return [*way, node]
                origin = node = calls[0]
            elif isinstance(node, LOOP):
                self._check_skips(node, origin)
                if alone or node.orelse:
                    self.uses.refuse(node)
            elif isinstance(node, ast.If):
                if not measures and (child not in body or not self._holds_for_both(node)):
                    self.uses.refuse(node)
            elif isinstance(node, _ODD) or (child in body and _holds(node)):
                self.uses.refuse(node)
            way.append(node)
        return way

    def _check_skips(self, node: Any, origin: Any) -> None:
        """Raises at what goes on without a step, but not without an update."""
        inner: list[Any] = [*ast.walk(node)]
        steps = [x for x in inner if isinstance(x, ast.Call) and called(x) == "step"]
        last = max((x.lineno for x in steps if x.lineno < origin.lineno), default=0)
        held = any(_holds(y) for x in self._again(node) for y in ast.walk(x))
        for x in inner:
            turns = isinstance(x, ast.Continue) and self._loop(x) is node
            if isinstance(node, FUNCTION) or len(self._again(node)) > 1:
                turns |= isinstance(x, ast.Break) and self._loop(x) is node
                ends = isinstance(x, ast.Return) or (isinstance(x, ast.Raise) and held)
                turns |= ends and self.program.scope(x) is self.program.scope(origin)
            if isinstance(x, (ast.Yield, ast.YieldFrom)):
                self.uses.refuse(x)
            if turns and last and last < x.lineno < origin.lineno:
                self.uses.refuse(x)

    def _compare(self, step: Any, way: list[Any], measures: bool) -> None:
        """How often an update is where a step is."""
        loop, found = way[-1], []
        for update in self.uses.updates:
            new = self._between(update, loop, way, [update])
            found += new
            if not new and self.uses.updates[1:]:
                line = f"The update in line {update.lineno} is not in the loop that steps it."
                self.uses.note(line)
        if not found:
            self.interval = "epoch" if self.uses.updates else ""  # as far as the text says
            if any(self._again(loop) & self._again(x) for x in self.uses.updates):
                self.uses.refuse(step)
            return
        self._check_conditions(way)
        kinds = {kind for kind, _ in found}
        self.interval = kinds.pop() if len(kinds) == 1 else "epoch"
        if found[1:]:
            self.interval = "epoch"
        here = place(way[-2])
        early = all(here < at or (here == at and place(step) < place(x)) for _, (x, at) in found)
        if early and not _epoch(step) and not measures:
            self.uses.note("It is stepped before the updates: the first has its step 1.")

    def _between(
        self, node: Any, loop: Any, way: list[Any], path: list[Any], inner: bool = False
    ) -> list[Any]:
        """Whether an update is in a loop by itself or in another; and in which statement of it."""
        while not isinstance(node, ast.Module):
            child, node = node, self.program.parents[node]
            if node is loop:
                self.near |= {*path}
                if not inner:
                    self.conditions += [x for x in path if isinstance(x, (ast.If, ast.Try))]
                same = self.program.scope(path[0]) is self.program.scope(way[0])
                return [("epoch" if inner else "step", (path[0] if same else child, place(child)))]
            path = [*path, node]
            inner = inner or isinstance(node, (ast.Lambda, *INLINE, *LOOP))
            if isinstance(node, FUNCTION):
                returns: list[Any] = [] if inner else [*ast.walk(node)]
                for x in returns:
                    own = isinstance(x, ast.Return) and self.program.scope(x) is node
                    if own and x.lineno < child.lineno:
                        self.uses.refuse(x)
                calls = self.program.called_by(node)
                inner = inner or any(x in ast.walk(node) for x in calls)
                calls = [x for x in calls if (path[0], x) not in self.seen]
                self.seen |= {(path[0], x) for x in calls}
                return [y for x in calls for y in self._between(x, loop, way, [*path, x], inner)]
        return []

    def _check_conditions(self, way: list[Any]) -> None:
        """Raises at one of an update alone: each branch has one, or it is that of the step."""
        tests = [ast.dump(x.test) for x in way if isinstance(x, ast.If)]
        for x in self.conditions:
            if isinstance(x, ast.Try):
                if x not in way:
                    self.uses.refuse(x)
            elif ast.dump(x.test) not in tests and not all(
                {*y} & self.near for y in (x.body, x.orelse)
            ):
                self.uses.refuse(x)

    def _again(self, node: Any) -> set[Any]:
        """What runs a node again: the loops around it, and the functions of several calls."""
        found: set[Any] = set()
        todo, seen = [node], set()
        while todo:
            node = todo.pop()
            while node not in seen and not isinstance(node, ast.Module):
                seen.add(node)
                calls = self.program.called_by(node) if isinstance(node, FUNCTION) else []
                found |= {node} if isinstance(node, LOOP) or calls[1:] else set()
                todo += calls
                node = self.program.parents[node]
        return found

    def _loop(self, node: Any) -> Any:
        while not isinstance(node, (*LOOP, *DEFINITION, ast.Module)):
            node = self.program.parents[node]
        return node

    def _holds_for_both(self, node: ast.If) -> bool:
        """Whether a condition is that of an update, too, or asks only if there is a schedule."""
        test: Any = node.test
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot):
            test = test.left
        if is_main(node) or self.uses.kind(test) == "schedule":
            return True
        loop = self._loop(node)
        own = {*ast.walk(loop.target)} if isinstance(loop, ast.For) else set()
        names = [x for x in {*ast.walk(loop)} - own if isinstance(x, (ast.Name, ast.Attribute))]
        stored = {_name(x) for x in names if isinstance(x.ctx, ast.Store)} | {"()"}
        stored |= {x.name for x in ast.walk(self.program.tree) if isinstance(x, FUNCTION)}
        read = {_name(x) for x in ast.walk(node.test)}
        alike = (
            [x for x in ast.walk(loop) if isinstance(x, ast.If)] if not read & stored else [node]
        )
        for x in alike:
            inner = [z for y in x.body for z in ast.walk(y)]
            steps = {y for y in inner if isinstance(y, ast.Call) and called(y) == "step"}
            if ast.dump(x.test) == ast.dump(node.test) and steps - {*self.uses.steps}:
                return True
        return False


def _counts(x: Any) -> bool:
    """Whether an epoch is a name, or one more."""
    one = isinstance(x, ast.BinOp) and isinstance(x.op, ast.Add)
    return bool(dotted(x)) or (one and "1" in (ast.unparse(x.left), ast.unparse(x.right)))


def _name(x: Any) -> str:
    """What may have another value later: a name, an attribute, or a call."""
    other = isinstance(x, ast.Call) and called(x) not in ("isinstance", "len")
    return "()" if other else getattr(x, "id", getattr(x, "attr", ""))


def _is_text(x: Any) -> bool:
    return isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)


def _holds(x: ast.AST) -> bool:
    """Whether it goes on after an error within, which may have been before a step."""
    context = head(x) if isinstance(x, (ast.With, ast.AsyncWith)) else ""
    return bool(isinstance(x, ast.Try) and x.handlers) or "suppress" in context


def _epoch(step: ast.Call) -> Any:
    """What a step is given as its number."""
    named = [x.value for x in step.keywords if x.arg in ("epoch", "num_updates")]
    return [*step.args[:1], *named, None][0]
