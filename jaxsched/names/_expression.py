"""Texts such as ``warmup_cosine(peak=1e-3, steps=1000, warmup=10%) * 0.5`` as calls.

A recursive descent over names, numbers, texts, lists, dicts and calls, with the operators of
schedules. It knows no attribute, no variable, nothing that runs: what a name may be says the table.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, NoReturn

from jaxsched._numerals import numeral

DEPTH = 100
LENGTH = 20_000
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r"(?:[ ]*%|[ ]*[A-Za-z]+(?:[ ]+[A-Za-z]+)?)?)"
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
    r"|(?P<text>'[^'\\]*'|\"[^\"\\]*\")"
    r"|(?P<sign>>>|\*\*|[()\[\]{}:;,=+*/-])"
    r")"
)
_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
# The operators by how closely they bind, as Python's do.
_LEVELS = ((">>",), ("+", "-"), ("*", "/"))


@dataclasses.dataclass(frozen=True)
class Call:
    """A name of the table with its arguments; or an operator with its two operands."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)


class Word(str):
    """A text without quotes."""


def parse(text: str, where: str = "from_config(config=...)", program: bool = False) -> Any:
    """A ``Call``, number, text, list or dict; of a program its last value.

    A number with ``%`` or a unit (``10%``, ``3 epochs``) stays a text, and so does a bare word.
    """
    if text.strip() == "-":
        raise ValueError(f"{where} must be given as it is, got '-': standard input is not read.")
    if len(text) > LENGTH:
        raise ValueError(f"{where} must have at most {LENGTH} letters, got {len(text)}.")
    reader = _Reader(text, where, program)
    return reader.statements() if program else reader.whole()


class _Reader:
    def __init__(self, text: str, where: str, program: bool) -> None:
        self.text, self.where, self.program, self.depth = text, where, program, 0
        self.named: dict[str, Any] = {}  # what a program has given a name
        self.tokens: list[tuple[str, str, int]] = []  # kind, token, its place
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if not found:
                place = len(text) - len(text[at:].lstrip())
                self.fail("names, numbers, texts, lists, dicts and calls", place)
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind], found.start(kind)))
            at = found.end()
        self.tokens.append(("end", "", end))
        self.at = 0

    def fail(self, wanted: str, place: int | None = None) -> NoReturn:
        place = self.tokens[self.at][2] if place is None else place
        rest = self.text[place:]
        raise ValueError(
            f"{self.where} must have {wanted}, got {rest!r:.40}"
            if rest.strip()
            else f"{self.where} must have {wanted}, got the end of {self.text!r:.60}"
        )

    def sign(self, *signs: str) -> str | None:
        """The next token if it is one of these, which is then behind us."""
        kind, token, _ = self.tokens[self.at]
        if kind != "sign" or token not in signs:
            return None
        self.at += 1
        return token

    def whole(self) -> Any:
        value = self.level(0)
        if self.tokens[self.at][0] != "end":
            self.fail("one expression")
        return value

    def statements(self) -> Any:
        """``name = value``, ``return value`` or a value alone, one after the other."""
        value = None
        while self.tokens[self.at][0] != "end":
            (kind, token, _), after = self.tokens[self.at], self.tokens[self.at + 1]
            named = kind == "name" and after[:2] == ("sign", "=")
            self.at += 2 if named else token == "return"
            value = self.level(0)
            while self.sign(","):
                value = [value, self.level(0)]
            if named:
                self.named[token] = value
            self.sign(";")
            if not named and self.tokens[self.at][0] != "end":
                self.fail("names for all values but the last")
        return value

    def level(self, i: int) -> Any:
        if i == len(_LEVELS):
            return self.operand()
        value = self.level(i + 1)
        while operator := self.sign(*_LEVELS[i]):
            value = Call(operator, (value, self.level(i + 1)))
        return value

    def operand(self) -> Any:
        self.depth += 1
        if self.depth > DEPTH:
            raise ValueError(f"{self.where} must be nested at most {DEPTH} deep.")
        sign = self.sign("-", "+")
        value = self.operand() if sign else self.atom()
        if sign == "-":
            value = -value if isinstance(value, (int, float)) else Call("*", (-1, value))
        elif not sign and self.sign("**"):
            value = Call("**", (value, self.operand()))
        self.depth -= 1
        return value

    def atom(self) -> Any:
        if self.sign("("):
            value = self.level(0)
            if not self.sign(","):
                return value if self.sign(")") else self.fail("a closing )")
            return [value, *self.items(")")]
        if self.sign("["):
            return self.items("]")
        if self.sign("{"):
            return self.mapping()
        kind, token, _ = self.tokens[self.at]
        if kind not in ("number", "name", "text"):
            self.fail("a name, number, text or list")
        self.at += 1
        if kind == "text":
            return token[1:-1]
        if kind == "number":
            return _number(token)
        if self.sign("("):
            return self.call(token)
        while self.program and self.sign("["):  # cfg["lr"], which is no other than cfg.lr
            token = ".".join(map(str, [token, *self.items("]")]))
        return self.named.get(token, _WORDS.get(token, Word(token)))

    def items(self, end: str) -> list[Any]:
        found: list[Any] = []
        while not self.sign(end):
            found.append(self.level(0))
            if not self.sign(","):
                return found if self.sign(end) else self.fail(f"a comma or {end}")
        return found

    def mapping(self) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while not self.sign("}"):
            key = self.level(0)
            if not isinstance(key, (str, int, float)) or key in found or not self.sign(":"):
                self.fail("keys that are numbers or texts, each once, and a : after each")
            found[key] = self.level(0)
            if not self.sign(","):
                return found if self.sign("}") else self.fail("a comma or }")
        return found

    def call(self, name: str) -> Any:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        while not self.sign(")"):
            kind, token, _ = self.tokens[self.at]
            named = kind == "name" and self.tokens[self.at + 1][:2] == ("sign", "=")
            if named:
                if token in kwargs:
                    self.fail(f"each argument once: {token}")
                self.at += 2
                kwargs[token] = self.level(0)
            elif kwargs:
                self.fail("arguments with a name after the first that has one")
            else:
                args.append(self.level(0))
            if not self.sign(","):
                if not self.sign(")"):
                    self.fail("a comma or )")
                break
        return kwargs if name == "dict" and not args else Call(name, tuple(args), kwargs)


def _number(token: str) -> Any:
    number = numeral(token.replace("_", ""))
    return token if number is None else number
