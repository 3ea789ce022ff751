"""Rows as CSV, JSON or a pandas table."""

from __future__ import annotations

import json
import math
import numbers
import unicodedata
from typing import Any

from jaxsched._checks import checked_path
from jaxsched._serialize import to_dict
from jaxsched._types import FilePath
from jaxsched.recipes._share import share
from jaxsched.search._fingerprint import plain


def to_csv(rows: list[dict[str, Any]], file: FilePath | None) -> str:
    # All rows have the same columns, so the keys of the first are the head.
    lines = [",".join(map(_csv_cell, line)) for line in (rows[0], *map(dict.values, rows))]
    return _written_text("\n".join([*lines, ""]), file, "to_csv")


def to_json(rows: list[dict[str, Any]], file: FilePath | None) -> str:
    text = json.dumps([_strict_json(row) for row in rows], allow_nan=False, indent=1)
    return _written_text(text, file, "to_json")


def to_pandas(rows: list[dict[str, Any]]) -> Any:
    try:
        import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("to_pandas() needs pandas: pip install pandas.") from None
    return pd.DataFrame(rows)


def plain_setting(value: object) -> Any:
    """A value of ``Trial.settings`` as JSON: code and objects by their names."""
    if isinstance(value, (list, tuple)):
        return [plain_setting(v) for v in value]
    if isinstance(value, share):
        return to_dict(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else plain(value)


def _csv_cell(value: object) -> str:
    """A value as a cell; no spreadsheet takes it for a formula or for two cells."""
    if value is None or isinstance(value, (bool, numbers.Number)):
        return "" if value is None else str(value)
    text = str(value)
    # Spreadsheets execute a text that begins like a formula, some of them also after blanks.
    begin = next((c for c in text if c.isprintable() and not c.isspace()), "")
    wide = unicodedata.normalize("NFKC", begin)  # in East Asian text a sign may be a wide one
    if (wide and wide in "=+-@") or text[:1] in ("\t", "\r", "\n"):
        text = "'" + text
    # By hand: before Python 3.13 `csv` leaves a lone carriage return bare, which ends a row.
    bare = text.isprintable() and text == text.strip() and not any(c in text for c in "\",;'")
    return text if bare else '"' + text.replace('"', '""') + '"'


def _strict_json(value: object) -> Any:
    """A row as strict JSON, which has no NaN and no infinity, in lists neither."""
    # Python writes NaN, and `JSON.parse` of JavaScript refuses a text with it as a whole.
    if isinstance(value, dict):
        return {name: _strict_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict_json(one) for one in value]
    is_finite = not isinstance(value, float) or math.isfinite(value)
    return plain_setting(value) if is_finite else None


def _written_text(text: str, file: FilePath | None, where: str) -> str:
    if file is not None:
        # Names may hold anything, half a surrogate pair too.
        data = text.encode("utf-8", "backslashreplace")
        checked_path(f"{where}(file=...)", file).write_bytes(data)
    return text
