"""Results of sweeps that were never run, with scores by hand."""

import numpy as np

import jaxsched as js
from jaxsched import search


def result_of(scores, settings=None, maximize=False, kinds=None, **others):
    """A result with these validation scores, float [trials, runs]; others: of further metrics."""
    scores = np.asarray(scores, np.float32)
    settings = [{"peak": 0.1 * 2**i} for i in range(len(scores))] if settings is None else settings
    kinds = [""] * len(scores) if kinds is None else kinds
    trials = tuple(
        search.Trial(f"{kind} t{i}".strip(), s, {"learning_rate": js.Constant(0.1)}, kind)
        for i, (s, kind) in enumerate(zip(settings, kinds, strict=True))
    )
    shape = (len(scores), 1, scores.shape[1])
    return search.SweepResult(
        trials=trials,
        metric="loss",
        maximize=maximize,
        seeds=tuple(range(scores.shape[1])),
        horizons=np.full(len(scores), 10),
        train={"loss": np.zeros((*shape, 10), np.float32)},
        validation={
            name: np.asarray(values, np.float32)[:, None, :, None]
            for name, values in {"loss": scores, **others}.items()
        },
        evaluated=np.array([10]),
        diverged=np.where(np.isfinite(scores), -1, 3)[:, None, :],
        stopped=np.full(len(scores), -1),
        steps_asked=100,
        steps_trained=60,
        info=search.RunInfo(),
    )
