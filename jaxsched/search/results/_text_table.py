"""A readable table for a terminal, a notebook or a Markdown page."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable

from jaxsched._text import printable

Column = tuple[str, list[str]]  # its head and its cells


@dataclasses.dataclass(frozen=True, repr=False)
class TextTable:
    """Rows of texts with a title, and with notes below.

    ``print(table)`` aligns the columns, ``table.markdown()`` is the same for a page, and a notebook
    shows it as HTML. No text from a user breaks it: control characters are written as escapes.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    # Texts are made printable where they are shown, not where they are stored: ``rows`` are for
    # programs.

    @classmethod
    def of(cls, title: str, columns: list[Column], notes: Iterable[str] = ()) -> TextTable:
        """A table of columns with equal lengths."""
        head, cells = zip(*columns, strict=True)
        return cls(title, head, tuple(zip(*cells, strict=True)), tuple(notes))

    def __repr__(self) -> str:
        lines = [tuple(map(printable, row)) for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = self._numeric_columns()
        shown = [
            "  ".join(
                cell.rjust(width) if numeric else cell.ljust(width)
                for cell, width, numeric in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, shown))
        parts = [printable(self.title), rule, shown[0], rule, *shown[1:], rule]
        return "\n".join([*parts, *map(printable, self.notes)])

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        head, *rows = [[_escaped_markdown(cell) for cell in row] for row in (self.head, *self.rows)]
        rule = ["---:" if numeric else "---" for numeric in self._numeric_columns()]
        lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
        notes = [f"- {_escaped_markdown(note)}" for note in self.notes]
        return "\n".join(
            [f"**{_escaped_markdown(self.title)}**", "", *lines, *(["", *notes] * bool(notes))]
        )

    def _repr_html_(self) -> str:
        """The table for a notebook, with its notes below."""
        style = ["right" if numeric else "left" for numeric in self._numeric_columns()]

        def line(cells: tuple[str, ...], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align:{side}">{_escaped_html(cell)}</{tag}>'
                for cell, side in zip(cells, style, strict=True)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in self.rows)
        notes = "".join(f"<div><small>{_escaped_html(note)}</small></div>" for note in self.notes)
        return (
            f"<table><caption>{_escaped_html(self.title)}</caption>"
            f"<thead><tr>{line(self.head, 'th')}</tr></thead><tbody>{body}</tbody></table>{notes}"
        )

    def _numeric_columns(self) -> list[bool]:
        """The columns to align at the right: numbers, with or without errors."""
        # By the first letter, since a cell may be "0.08 ± 0.001", "(7)" or empty. A name that
        # begins with a digit in every row is aligned at the right as well, which does no harm.
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.head)
        return [all(c[:1] in "0123456789+-(." for c in column) for column in columns]


def _escaped_html(text: str) -> str:
    return html.escape(printable(text))


def _escaped_markdown(text: str) -> str:
    # Markdown passes HTML on, so HTML is escaped as well.
    escaped = html.escape(printable(text), quote=False)
    for mark in "\\|*`[]":
        escaped = escaped.replace(mark, "\\" + mark)
    return escaped
