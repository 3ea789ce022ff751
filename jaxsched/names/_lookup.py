"""The table: by a name of ours or of another library. It loads no JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from jaxsched._bounds import check_choice, check_number, check_text
from jaxsched._text import shorten
from jaxsched._words import bind, by_word, did_you_mean, letters, nearest
from jaxsched.compat._optimizer import optimizers_place
from jaxsched.names import _texts
from jaxsched.names._elsewhere import ALIASES, ELSEWHERE, OTHERWISE
from jaxsched.names._expression import OPERATORS, Call, Tree
from jaxsched.names._places import Place
from jaxsched.names._sources import LIBRARIES, PACKAGE, Entry, all_sources, ours, theirs

_OURS = ("jaxsched.compat.", "js.compat.", "compat.", "jaxsched.", "js.")
LIBRARY = by_word(LIBRARIES)


def entries(word: str = "") -> list[Entry]:
    """The entries with the words in their name, summary or names elsewhere; all for no word.

    Entries that exist in Python only (``js.range_test``, ``a >> b``) have no arguments here.

    >>> from jaxsched.names import entries
    >>> entries("fit_flat_cos")[0].call
    'flat_cosine(peak, steps, flat=..., end=...)'
    """
    word = _canonical(check_text("entries(word=...)", word)) or word
    wanted = [letters(part) for part in word.split()]
    rows = []
    python = [Entry(name, "", {}, (), "In Python.") for name in OTHERWISE if not source_of(name)]
    for entry in (*all_sources(), *python):
        texts = [letters(text) for text in (entry.name, entry.summary, *entry.elsewhere)]
        whole = any("".join(wanted) in text for text in texts)  # "one cycle"
        if whole or all(any(part in text for text in texts) for part in wanted):
            rows.append((not whole, "." in entry.name, entry.name.lower(), entry.name, entry))
    return [entry for *_, entry in sorted(rows, key=lambda row: row[:-1])]


def source_of(name: str) -> Entry | None:
    """The entry of a name; ``None`` if there is none.

    A library may be said as people say it, with its modules: ``hf.cosine``,
    ``torch.optim.lr_scheduler.StepLR``.
    """
    name = next((name.removeprefix(p) for p in _OURS if name.startswith(p)), name)
    if name.startswith(("schedules.", "controllers.")):
        name = name.partition(".")[2]
    if "." not in name:
        return ours().get(name)
    name = _canonical(name)
    return theirs(name.partition(".")[0]).get(ALIASES.get(name, name)) if name else None


def _canonical(name: str) -> str:
    """``"transformers.cosine"`` for ``"hf.optimization.cosine"``; empty if it is of no library."""
    # First and last part only: the parts between are the library's modules, which change.
    library = LIBRARY.get(name.partition(".")[0], "")
    return f"{library}.{name.rpartition('.')[2]}" if library and "." in name else ""


def check(
    tree: Tree, registered: Collection[str] = (), where: str = "from_config(name=...)"
) -> None:
    """Raises for a name that is not in the table, and for an unknown or missing argument."""
    # All names of a tree before anything is made: the error of a slip in the last argument must not
    # wait for the first, and it comes without JAX on the way of the command.
    if isinstance(tree, Call):
        source = source_of(tree.name)
        if source:
            names, optional = list(source.kinds), dict.fromkeys({*source.kinds} - {*source.needed})
            hint = optimizers_place(source.name, names, tree.args)
            bind(source.name, names, optional, tree.args, tree.kwargs, hint)
        elif tree.name not in OPERATORS and tree.name not in registered:
            raise ValueError(
                f"{where} must be a name that `jaxsched names` lists, got {unknown(tree.name)}."
            )
        for value in (*tree.args, *tree.kwargs.values()):
            check(value, registered, where)
    elif isinstance(tree, (list, dict)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            check(value, registered, where)


def check_values(x: Tree, place: Place, source: Entry | None = None, argument: str = "") -> Tree:
    """The value, as far as it is known; raises for a number out of bounds and a wrong text.

    The error is that of making the schedule, in the same words, but without JAX.
    """
    # The bounds are read from the source without importing it. The real check calls `check_number`
    # too, so the messages are the same. A relation of two arguments (a warmup longer than the run)
    # waits for the real check. Lists have no bounds to read: their kinds are functions of a list.
    if isinstance(x, Call):
        inner = place.within(source.name, argument) if source else place
        called = source_of(x.name)
        if called is None:  # an operator, or a class of one's own
            for each in (*x.args, *x.kwargs.values()):
                check_values(each, inner.within(x.name))
            return x
        given = {**dict(zip(called.kinds, x.args, strict=False)), **x.kwargs}
        inner.in_order([called], given, lambda n, place: check_values(given[n], place, called, n))
        return x
    if isinstance(x, (list, dict)):
        within = source and dataclasses.replace(source, bounds={})
        for key, each in x.items() if isinstance(x, dict) else ((argument, each) for each in x):
            if not isinstance(each, (int, float)):
                check_values(each, place, within, str(key))
        return x
    if source is None:
        return x
    where = f"{source.name}({argument}=...)"
    bounds = source.bounds.get(argument)
    if isinstance(x, str):
        x = _texts.meant(x, source, argument, place)
    if bounds is None or x is None or isinstance(x, _texts.Length):
        return x
    if "options" in bounds:
        check_choice(where, x, bounds["options"])
    else:
        order = f"The arguments are ({', '.join(source.kinds)})"
        hint = bounds.get("told", "").format(function=source.name, order=order)
        check_number(where, x, **{**bounds, "told": hint})
    return x


def unknown(name: str) -> str:
    """An unknown name, with the name to write instead."""
    # From the surest guess to the vaguest: a slip within the library ("torch.StepLr"), the word of
    # another one ("fit_flat_cos" is flat_cosine here), a near name, a name with a near part. If
    # two libraries share a word and the user named one of them, only that library counts.
    quoted = shorten(repr(name))
    said, bare = name.partition(".")[0], name.rpartition(".")[2]
    library = LIBRARY.get(said, "") if "." in name else ""
    known = {s.rpartition(".")[2]: s for s in theirs(library)} if library else dict.fromkeys(ours())
    near = nearest(bare, known, 2)
    slips = [word for word in near if letters(word) == letters(bare)]  # as of "StepLr"
    mine, is_its = _here(bare, f"{said}.{bare}", f"{library}.{bare}")
    if library and near and (near[0] in slips or not is_its):
        return f"{quoted}; did you mean {known[near[0]]}"
    names = {**{s.name: s.name for s in all_sources()}, **ALIASES}
    drop_ins = [x for n, x in names.items() if n.endswith(f".{bare}")]
    if bare and (mine or drop_ins):
        meant = [*mine[:3], *([] if library else slips), *drop_ins][:7]
        return f"{quoted}; it is {' or '.join(dict.fromkeys(meant))} here"
    near = [known[word] or word for word in near]
    if not (near or library) and 3 < len(bare) < 60:
        parts = {part for name in ours() for part in name.split("_")}
        # The longest first: of "warmup_table" the part is "warmup" and not "warm".
        near_parts = nearest(bare, sorted(parts, key=lambda part: (-len(part), part)))
        near = [name for name in ours() if {*near_parts} & {*name.split("_")}]
        near = (near or [entry.name for entry in entries(bare) if entry.module])[:2]
    return f"{quoted}; did you mean {' or '.join(near)}" if near else quoted


def named_here(word: str, names: Iterable[str]) -> str:
    """A hint for the message about a name that the package does not have."""
    if ours := _here(word)[0]:
        shown = [name if not name.isidentifier() else f"js.{name}" for name in ours[:2]]
        return f"; it is {' or '.join(shown)} here"
    # Where the packages' public names stand as imports; to import them would load all.
    for room in ("optim", "search", "schedules", "controllers", "testing", "command"):
        text = PACKAGE.joinpath(room, "__init__.py").read_text("utf-8")
        if f" as {word}\n" in text or f"\n{word} = " in text:
            return f"; it is js.{room}.{word} here"
    if drop_ins := [s.name for s in all_sources() if s.name.endswith(f".{word}")]:
        return f"; it is {' or '.join(f'js.compat.{name}' for name in drop_ins[:2])} here"
    return did_you_mean(word, names, shown="js.{}".format)


def _here(word: str, *whole: str) -> tuple[list[str], bool]:
    """Ours for a word of another library, recipes before pieces.

    If the library in the ``whole`` names has the word, only its entries count. The second value
    says whether it has the word.
    """
    wanted, said = letters(word), {*map(letters, whole)}
    rows: list[tuple[bool, bool, bool, str]] = []
    for table in (OTHERWISE, ELSEWHERE):
        for name_here, words in table.items():
            for name in words.split():
                if letters(name.rpartition(".")[2]) == wanted:
                    # Sorted: the named library first, then entries for Python only (`a >> b`):
                    # they are nearer to the word than a piece of the same curve. Then recipes;
                    # their names begin in lower case.
                    of_other, is_piece = letters(name) not in said, name_here[0].isupper()
                    rows.append((of_other, table is ELSEWHERE, is_piece, name_here))
    is_its = not all(of_other for of_other, *_ in rows)
    found = [name_here for of_other, *_, name_here in sorted(rows) if not (is_its and of_other)]
    return list(dict.fromkeys(found)), is_its
