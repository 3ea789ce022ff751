"""The reports on a sweep: its rows, its ranked table, its summary in one line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np

from jaxsched._text import printable
from jaxsched.recipes._share import share
from jaxsched.search._fingerprint import label, plain
from jaxsched.search.results._ranking import FEW, Difference, printed
from jaxsched.search.results._scored import Best, ScoredTrials
from jaxsched.search.results._text_table import Column, TextTable

LEVEL = 0.95


def rows(result: ScoredTrials) -> list[dict[str, Any]]:
    """A row for each trial.

    A row is a dict, so of two columns with one name a metric might be lost. People and recipes name
    settings: ``steps`` is a setting and also a column of every table. Our columns have the same
    names in every result, so that a program finds them; a setting gets another name.
    """
    mean, error = result.scores()
    names = list(dict.fromkeys(n for trial in result.trials for n in trial.settings))
    lengths = result.horizons.tolist()
    several = len(kinds(result)) > 1
    taken = {"trial", "name", "steps", "diverged runs", "diverged at", "stopped at"}
    lacking = unfinished(result).tolist()
    taken |= {"unfinished runs"} if result.info.partial else set()
    taken |= {"kind"} if several else set()
    metric = f"metric {result.metric}" if result.metric in taken else result.metric
    taken |= {metric, f"{metric} error"}
    # Recipes have an argument `steps`, and mostly it is the length of the run.
    if all(t.settings.get("steps", n) == n for t, n in zip(result.trials, lengths, strict=True)):
        taken -= {"steps"}  # one column says both
    column: dict[str, str] = {}
    for name in names:
        text = name
        while text in taken:
            text = f"setting {text}"
        column[name] = text
        taken.add(text)
    made = []
    for i, trial in enumerate(result.trials):
        gone = result.diverged[i][result.diverged[i] >= 0]
        made.append(
            {
                "trial": i,
                "name": trial.name,
                **({"kind": trial.kind} if several else {}),
                **{column[name]: trial.settings.get(name) for name in names},
                metric: float(mean[i]),
                f"{metric} error": float(error[i]),
                "steps": lengths[i],
                "diverged runs": len(gone),
                "diverged at": int(gone.min()) if len(gone) else None,
                "stopped at": int(result.stopped[i]) if result.stopped[i] >= 0 else None,
                **({"unfinished runs": lacking[i]} if result.info.partial else {}),
            }
        )
    return made


def kinds(result: ScoredTrials) -> list[str]:
    """The kinds of the trials, in their order."""
    return list(dict.fromkeys(trial.kind for trial in result.trials))


def show(value: object) -> str:
    """A setting's value."""
    return f"{value:.4g}" if isinstance(value, float) else label(value)


def number(mean: float, error: float, form: str = ".4g") -> str:
    """``0.08 ± 0.001``, without the error where it isn't known: runs that agree show none."""
    # "± 0" would claim an exact mean. Runs that agree in all digits only show a metric with few
    # values, such as an accuracy on little data.
    return f"{mean:{form}}" + (f" ± {error:.2g}" if math.isfinite(error) and error else "")


def score(best: Best | None) -> str:
    return "" if best is None else number(best.score, best.error)


def differences(compared: list[Difference | None]) -> list[Column]:
    """Differences with their errors, and whether they clearly differ from zero."""
    # "?" is not "no": there is no evidence for equality either.
    words = {True: "yes", False: "no", None: "?"}
    shown = ["" if d is None else number(d.mean, d.error, "+.2g") for d in compared]
    return [
        ("difference", shown),
        ("differs", ["" if d is None else words[d.differs] for d in compared]),
    ]


def paired_note(runs: int, level: float, compared: Iterable[Difference | None]) -> str:
    """How ``difference`` decides about the found differences."""
    if runs < 2:
        return "One run each: no error is known. Give several seeds."
    return (
        f"±: standard error; of a difference, over {runs} paired runs. Whether it differs from 0 "
        f"at {level:.0%}: by Student's t with {plural(runs - 1, 'degree')} of freedom."
        + " ?: all runs differ by as much, which is no evidence."
        * any(one is not None and one.error == 0 and one.differs is None for one in compared)
    )


def own_name(best: Best | None, kind: str) -> str:
    """The name of a kind's best trial, beside the kind's own name."""
    if best is None:
        return "none has a score"
    return "" if best.name == kind else best.name.removeprefix(f"{best.trial.kind} ")


def varying(result: ScoredTrials) -> list[str]:
    """The settings with several values, in their order."""
    # By their texts: a setting may be a list, which has no hash.
    values: dict[str, set[str]] = {}
    for trial in result.trials:
        for name, value in trial.settings.items():
            values.setdefault(name, set()).add(plain(value))
    return [name for name, texts in values.items() if len(texts) > 1]


def on_axis(setting: object) -> Any:
    """Where a setting stands on an axis: a share at its fraction."""
    return float(setting) if isinstance(setting, share) else setting


def is_number(x: object) -> TypeGuard[int | float]:
    """Whether a setting is a number in the range of floats; True and False are words."""
    if isinstance(x, int):
        return not isinstance(x, bool) and abs(x) < 2**1023
    return isinstance(x, float)


# ------------------------------------------------------------------------------------------ table


def table(result: ScoredTrials, metric: str, maximize: bool, limit: int | None) -> TextTable:
    """The trials, the best first, with all metrics."""
    metrics = [metric, *(name for name in sorted(result.validation) if name != metric)]
    scores = {name: result.scores(name) for name in metrics}
    stops = _means_at_stop(result, metrics)
    # Two lists: trials with a score, in its order, and lost trials, in an order of their own.
    ranking = result.ranking(metric, maximize)
    ranked = [i for i in ranking if math.isfinite(scores[metric][0][i])]
    lost = [i for i in ranking if not math.isfinite(scores[metric][0][i])]
    sign = -1.0 if maximize else 1.0
    # The later a trial was stopped, the more it has outlasted; diverged trials follow.
    at_end = {i: (-int(result.stopped[i]), sign * stops[i][metric]) for i in stops}
    lost.sort(key=lambda i: (*at_end.get(i, (1, 0.0)), printed(result.trials[i])))
    rows = [*ranked, *lost][:limit]

    def cell(i: int, name: str) -> str:
        if i in stops:
            return f"({stops[i][name]:.4g})"
        mean, error = (float(column[i]) for column in scores[name])
        return number(mean, error) if math.isfinite(mean) else ""

    places = [f"{n + 1}" if n < len(ranked) else "" for n in range(len(rows))]
    columns = [("", places), *_naming_columns(result, rows)]
    columns += [(name, [cell(i, name) for i in rows]) for name in metrics]
    if len(rows) > len(ranked):
        reasons = [_why_unranked(result, i) for i in rows[len(ranked) :]]
        columns.append(("", [""] * len(ranked) + reasons))
    notes = [f"... {len(ranking) - len(rows)} more"] * (len(rows) < len(ranking))
    pooled = result.pooled(metric)
    among = f", pooled over {plural(len(pooled), 'trial')} (others: their own, if larger)"
    errors = f"±: standard error of {result.runs} runs{among * bool(pooled)}"
    notes += [errors if result.runs > 1 else "One run each: no error is known."]
    notes += ["(...): where it was stopped"] if stops else []
    first = "highest" if maximize else "lowest"
    title = f"{plural(len(ranking), 'trial')} by {metric}, {first} first{partial(result)}"
    return TextTable.of(title, columns, notes)


def _naming_columns(result: ScoredTrials, rows: list[int]) -> list[Column]:
    """The columns that distinguish trials: kinds, names and settings, as far as needed."""
    trials, names, several = result.trials, varying(result), len(kinds(result)) > 1

    def shown(i: int, name: str) -> str:
        return show(trials[i].settings[name]) if name in trials[i].settings else ""

    columns: list[Column] = [("kind", [trials[i].kind for i in rows])] * several
    # Names are long: they are shown where kinds and settings do not tell all trials apart.
    apart = {
        (trial.kind * several, *(shown(i, name) for name in names))
        for i, trial in enumerate(trials)
    }
    if len(apart) < len(trials) or not (names or several):
        columns.append(("name", [trials[i].name for i in rows]))
    return columns + [(name, [shown(i, name) for i in rows]) for name in names]


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


def _means_at_stop(result: ScoredTrials, metrics: list[str]) -> dict[int, dict[str, float]]:
    """The means of the stopped trials, where they were stopped; without diverged trials."""
    means = {}
    for trial in np.flatnonzero(result.stopped >= 0).tolist():
        at = np.searchsorted(result.evaluated, result.stopped[trial])
        values = {name: result.validation[name][trial, ..., at] for name in metrics}
        means[trial] = {n: float(column.mean(dtype=np.float64)) for n, column in values.items()}
    return {trial: mean for trial, mean in means.items() if math.isfinite(mean[metrics[0]])}


def _why_unranked(result: ScoredTrials, trial: int) -> str:
    """Why a trial has no rank: it diverged, was stopped, or did not end; several may be true."""
    gone = result.diverged[trial][result.diverged[trial] >= 0]
    marks = ["unfinished"] if unfinished(result)[trial] else []
    if len(gone):
        some = f" in {len(gone)} of {result.runs} runs" if result.runs > 1 else ""
        marks.append(f"diverged at {gone.min()}{some}")
    if result.stopped[trial] >= 0:
        marks.append(f"stopped at {result.stopped[trial]}")
    return ", ".join(marks or ["not finite"])


def unfinished(result: ScoredTrials) -> np.ndarray:
    """How many runs of each trial Ctrl-C has left without an end, int64 [trials].

    A run without a loss at its last update has diverged, was stopped, or has not got there.
    """
    last = result.train["loss"][np.arange(len(result.trials)), ..., result.horizons - 1]
    lacking = np.isnan(last) & (result.diverged < 0) & (result.stopped < 0)[:, None, None]
    return lacking.sum(axis=(1, 2)) * result.info.partial


def partial(result: ScoredTrials) -> str:
    """For titles: how many trials Ctrl-C has left unfinished, or an empty text."""
    count = np.count_nonzero(unfinished(result))
    return f" (partial: {count} unfinished)" * result.info.partial


# ---------------------------------------------------------------------------------------- summary


def edges(result: ScoredTrials) -> tuple[dict[str, str], list[str], list[str]]:
    """Settings with their best number at an edge of the tried range, inside it, and idle ones.

    An idle setting has had no effect: all its numbers gave the best run.

    Nothing is at an edge where no more can be tried: no length, rate or share is below 0, and no
    share above 1. A range is taken over the best trial's own kind.
    """
    best = result.best()
    at_edge, inside, idle = {}, [], []
    curves = [*result.train.values(), *result.validation.values()]
    # Trials that are one run with the best one, bit for bit. Example: the peaks 0.1 and 0.2 were
    # tried with each of two values of a setting that the recipe does not use. Then the best run is
    # there twice, and the order of the two says nothing of this setting: it is idle.
    same = {i: t.settings for i, t in enumerate(result.trials) if t.kind == best.trial.kind}
    ties = [
        settings
        for i, settings in same.items()
        if all(np.array_equal(c[i], c[best.index], equal_nan=True) for c in curves)
    ]
    for name, value in best.settings.items():
        shares = isinstance(value, share)
        alternatives = [settings[name] for settings in same.values() if name in settings]
        # A share and a number of steps do not belong to one range.
        numbers = [on_axis(x) for x in alternatives if isinstance(x, share) == shares]
        tried, value = {x for x in numbers if is_number(x)}, on_axis(value)
        if not is_number(value) or len(tried) < 2:
            continue
        # The numbers of this setting that gave the best run; if all did, the setting is idle.
        tied = {x for x in (on_axis(s[name]) for s in ties if name in s) if is_number(x)}
        if tied >= tried:
            idle.append(name)
        elif min(tried) < value < max(tried):
            inside.append(name)
        # If several values gave the best run, it is chance which one stands at the edge.
        elif len(tied) == 1 and value != (0 if value == min(tried) else 1 if shares else math.inf):
            at_edge[name] = "lowest" if value == min(tried) else "highest"
    return at_edge, inside, idle


def summary(result: ScoredTrials) -> str:
    """One line."""
    count = plural(len(result.trials), "trial")
    count += f" x {result.runs} runs" if result.runs > 1 else ""
    if (shard := result.info.shard) is not None:
        count += f" in shard {shard.index} of {shard.of}"
    count += partial(result)
    lost = int((result.diverged >= 0).any(axis=(1, 2)).sum())
    cost = f"{result.steps_trained} of {result.steps_asked} steps trained"
    cost += f" ({result.info.stored} found in the checkpoint)" if result.info.stored else ""
    # A summary is shown by ``repr``, which must not fail: where all diverged it says so.
    try:
        best = result.best()
    except ValueError:
        return f"{count}: no trial has a score, {lost} diverged; {cost}"
    said = f"{best.name}, {result.metric} {score(best)}"
    pooled = result.pooled()
    if result.runs == 1:
        said += " (one run: no error)"
    elif best.index in pooled:
        said += f" (pooled over {len(pooled)} trials)"
    elif result.runs <= FEW:
        said += f" (of {result.runs} runs only)"
    parts = [f"best of {count}: {said}", *_against_second(result)]
    at_edge, inside, idle = edges(result)
    if at_edge:
        shown = "; ".join(f"{name} is the {edge} tried" for name, edge in at_edge.items())
        parts.append(f"on the edge of the range ({shown})")
    elif inside:
        parts.append("inside the range")
    parts += [f"{', '.join(idle)} has had no effect"] if idle else []
    parts += [f"{lost} diverged"] if lost else []
    return printable(", ".join(parts) + f"; {cost}")


def _against_second(result: ScoredTrials) -> list[str]:
    """Whether the best trial clearly beats the second; with several kinds, another kind's best."""
    # The second is often a neighbour of the best on one grid, so that a kind would be compared with
    # itself. Where kinds compete the reader wants to know which of them is better.
    first, *others = result.ranking()
    kind = result.trials[first].kind
    others = [i for i in others if result.trials[i].kind != kind] or others
    if result.runs == 1 or not others or not math.isfinite(result.scores()[0][others[0]]):
        return []
    apart = result.difference(others[0], first, LEVEL)
    name = result.trials[others[0]].name
    if apart.differs:
        return [f"ahead of {name} by {abs(apart.mean):.2g} ({LEVEL:.0%})"]
    return [f"not told apart from {name} ({LEVEL:.0%})"]
