"""Every schedule's definition in 40-digit arithmetic: closed forms, written apart from the package.

``reference(schedule, step)`` takes the leaves as the exact numbers that they are.
"""

from __future__ import annotations

from functools import cache, singledispatch

import mpmath as mp
import numpy as np

import jaxsched as js
from jaxsched.schedules._noise import random_bits

mp.mp.dps = 40


def exact(x):
    return mp.mpf(int(x)) if isinstance(x, (int, np.integer)) else mp.mpf(float(x))


def optional(x):
    return mp.mpf(1) if x is None else exact(x)


def reference(schedule, step):
    return value(schedule, max(mp.mpf(step), mp.mpf(0)))


def length(schedule):
    """The exact duration, or None."""
    if isinstance(schedule, js.Sequence):
        lengths = [length(p) for p in schedule.parts]
        return None if lengths[-1] is None else mp.fsum(lengths)
    if isinstance(schedule, js.Repeat):
        if schedule.cycles is None:
            return None
        g, d, w = optional(schedule.growth), length(schedule.schedule), mp.mpf(0)
        w = w if schedule.warmup is None else exact(schedule.warmup)
        return mp.fsum(w + (d - w) * g**i for i in range(int(schedule.cycles)))
    if isinstance(schedule, js.Stretch):
        return length(schedule.schedule) * exact(schedule.factor)
    if isinstance(schedule, js.Warp):
        return exact(schedule.shape.steps)
    return None if schedule.duration is None else exact(schedule.duration)


def progress(s, t):
    steps = exact(s.steps)
    return min(t / steps, mp.mpf(1)) if steps > 0 else mp.mpf(1)


def between(s, weight):
    return exact(s.end) + (exact(s.start) - exact(s.end)) * weight


@singledispatch
def weight(s, p):
    raise NotImplementedError(type(s))


@singledispatch
def value(s, t):
    if isinstance(s, js.AbstractShape):
        return between(s, weight(s, progress(s, t)))
    raise NotImplementedError(type(s))


def of(cls, table):
    def add(f):
        table.register(cls)(f)
        return f

    return add


@of(js.Linear, weight)
def _(s, p):
    return 1 - p


@of(js.Cosine, weight)
def _(s, p):
    return ((1 + mp.cos(mp.pi * p)) / 2) ** optional(s.exponent) if p < 1 else mp.mpf(0)


@of(js.Polynomial, weight)
def _(s, p):
    return (1 - p) ** exact(s.power)


@of(js.Sqrt, weight)
def _(s, p):
    return 1 - mp.sqrt(p)


@of(js.Rex, weight)
def _(s, p):
    b = exact(s.beta)
    return (1 - p) / (b + (1 - b) * (1 - p))


@of(js.Logarithmic, weight)
def _(s, p):
    n = exact(s.steps)
    return 1 - mp.log(1 + p * n) / mp.log(1 + n)


@of(js.Hyperbolic, weight)
def _(s, p):
    n, u = exact(s.steps), exact(s.bound)
    f = lambda x: mp.sqrt((n - x) / u * (2 - (n + x) / u))
    return 1 + f(p * n) - f(0)


@of(js.HalfCosine, weight)
def _(s, p):
    return 1 - mp.sin(mp.pi * p / 2)


@of(js.QuarterCosine, weight)
def _(s, p):
    return mp.cos(mp.pi * p / 2) if p < 1 else mp.mpf(0)


@of(js.MirrorCosine, weight)
def _(s, p):
    return 2 * (1 - p) - (1 + mp.cos(mp.pi * p)) / 2


@of(js.ShiftedExponential, weight)
def _(s, p):
    r = exact(s.ratio)
    return (r**p - r) / (1 - r)


@of(js.Harmonic, value)
def _(s, t):
    p = progress(s, t)
    return 1 / ((1 - p) / exact(s.start) + p / exact(s.end))


@of(js.Geometric, value)
def _(s, t):
    return exact(s.start) * (exact(s.end) / exact(s.start)) ** progress(s, t)


@of(js.Tanh, value)
def _(s, t):
    p = progress(s, t)
    return between(s, (1 - mp.tanh(exact(s.lower) * (1 - p) + exact(s.upper) * p)) / 2)


@of(js.Warp, value)
def _(s, t):
    return between(s.shape, weight(s.shape, progress(s.shape, t) ** exact(s.power)))


@of(js.Constant, value)
def _(s, t):
    return exact(s.value)


@of(js.Exponential, value)
def _(s, t):
    return exact(s.start) * mp.exp(exact(s.rate) * t)


@of(js.InverseSqrt, value)
def _(s, t):
    return exact(s.start) / mp.sqrt(1 + t / exact(s.timescale))


@of(js.InverseTime, value)
def _(s, t):
    return exact(s.start) / (1 + t / exact(s.timescale))


@of(js.PowerLaw, value)
def _(s, t):
    return exact(s.start) * (1 + t / exact(s.timescale)) ** exact(s.exponent)


@of(js.RAdamWarmup, value)
def _(s, t):
    b2 = exact(s.b2)
    last = 2 / (1 - b2) - 1

    def rho(n):
        return last - 2 * n * b2**n / (1 - b2**n)

    first = next(n for n in range(1, 99) if rho(n) > 4)
    now = rho(t + first)
    return mp.sqrt((now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now))


@cache
def silver_levels(kappa):
    z, levels = 1 / kappa, []
    for _ in range(31):
        factor = 1 - z + mp.sqrt(1 + (1 - z) ** 2)
        levels.append((z / factor, z))
        z = z * factor
    return levels


@of(js.Silver, value)
def _(s, t):
    last = 2**31 - 1 if s.steps is None else max(int(s.steps), 1)
    i = min(int(mp.floor(t)) + 1, last)
    nu = (i & -i).bit_length() - 1
    if s.condition is None:
        return exact(s.scale) * (1 + (1 + mp.sqrt(2)) ** (nu - 1))
    kappa, start = exact(s.condition), 0
    if s.steps is not None:
        while i - start > (block := (last - start) & -(last - start)):
            start += block
        nu = ((i - start) & -(i - start)).bit_length() - 1
    y, z = silver_levels(kappa)[nu]
    x = z if s.steps is not None and i - start == block else y
    return exact(s.scale) * (1 + kappa * x) / (1 + x)


@of(js.Sequence, value)
def _(s, t):
    start = mp.mpf(0)
    for part in s.parts[:-1]:
        end = start + length(part)
        if t < end:
            return value(part, t - start)
        start = end
    return value(s.parts[-1], t - start)


@of(js.RightClosed, value)
def _(s, t):
    start = mp.mpf(0)
    for part in s.parts[:-1]:
        if t <= start + length(part):
            return value(part, t - start)
        start += length(part)
    return value(s.parts[-1], t - start)


@of(js.Product, value)
def _(s, t):
    return mp.fprod(value(p, t) for p in s.parts)


@of(js.Sum, value)
def _(s, t):
    return mp.fsum(value(p, t) for p in s.parts)


@of(js.Minimum, value)
def _(s, t):
    return min(value(p, t) for p in s.parts)


@of(js.Maximum, value)
def _(s, t):
    return max(value(p, t) for p in s.parts)


@of(js.Repeat, value)
def _(s, t):
    g, d, f = optional(s.growth), length(s.schedule), optional(s.decay)
    cycle, begin, span, w = 0, mp.mpf(0), d, mp.mpf(0 if s.warmup is None else exact(s.warmup))
    if g == 1:
        cycle = int(mp.floor(t / d))
        begin = d * cycle
        if s.cycles is not None and cycle >= s.cycles:
            cycle = int(s.cycles) - 1
            begin = d * cycle
    else:
        while t >= begin + span and (s.cycles is None or cycle + 1 < s.cycles):
            begin, span, cycle = begin + span, w + (span - w) * g, cycle + 1
    local = t - begin
    local = min(local if local < w else w + (local - w) / g**cycle, d)
    return value(s.schedule, local) * (f**cycle if cycle else 1)


@of(js.Stretch, value)
def _(s, t):
    return value(s.schedule, t / exact(s.factor))


@of(js.Shift, value)
def _(s, t):
    return value(s.schedule, max(t - exact(s.steps), mp.mpf(0)))


@of(js.Window, value)
def _(s, t):
    return value(s.schedule, min(t + exact(s.start), exact(s.stop)))


@of(js.Clip, value)
def _(s, t):
    v = value(s.schedule, t)
    v = v if s.high is None else min(v, exact(s.high))
    return v if s.low is None else max(v, exact(s.low))


@of(js.Power, value)
def _(s, t):
    return value(s.schedule, t) ** exact(s.exponent)


@of(js.Epochwise, value)
def _(s, t):
    return value(s.schedule, mp.ceil((mp.floor(t) + 1) / exact(s.per_epoch)) - 1)


@of(js.Noisy, value)
def _(s, t):
    last = length(s.schedule)
    at = mp.floor(t if last is None else min(t, last))
    if at < exact(s.start) or (s.stop is not None and at >= exact(s.stop)):
        return value(s.schedule, t)
    bits = int(random_bits(int(s.seed), np.float64(at)))
    x, limit = mp.mpf(2 * (bits >> 9) + 1 - 2**23) / 2**23, exact(s.limit)
    if s.distribution == "normal":
        wide = exact(s.std) * mp.sqrt(2)
        x, limit = mp.erfinv(x * mp.erf(limit / wide)), wide
    return value(s.schedule, t) * (1 + x * limit)


@of(js.Quantize, value)
def _(s, t):
    e = exact(s.every)
    return value(s.schedule, e * mp.floor(t / e))


@of(js.Paced, value)
def _(s, t):
    edges = [mp.mpf(0), *map(exact, s.boundaries), mp.inf]
    parts = zip(s.paces, edges, edges[1:], strict=False)
    return value(s.schedule, mp.fsum(exact(p) * max(min(t, b) - a, 0) for p, a, b in parts))


@of(js.Reverse, value)
def _(s, t):
    return value(s.schedule, max(length(s.schedule) - t, mp.mpf(0)))


@of(js.PiecewiseConstant, value)
def _(s, t):
    return exact(s.values[sum(1 for b in s.boundaries if exact(b) <= t)])


@of(js.Table, value)
def _(s, t):
    return exact(s.values[min(int(mp.floor(t)), len(s.values) - 1)])


def _segment(s, t):
    x = [exact(v) for v in s.steps]
    i = max(min(sum(1 for b in x if b <= t) - 1, len(x) - 2), 0)
    if len(x) == 1:
        return 0, 0, mp.mpf(0), mp.mpf(1)
    h = x[i + 1] - x[i]
    return i, i + 1, min(max((t - x[i]) / h, mp.mpf(0)), mp.mpf(1)), h


@of(js.PiecewiseLinear, value)
def _(s, t):
    i, j, p, _ = _segment(s, t)
    return exact(s.values[i]) * (1 - p) + exact(s.values[j]) * p


@of(js.PiecewiseCosine, value)
def _(s, t):
    i, j, p, _ = _segment(s, t)
    w = (1 + mp.cos(mp.pi * p)) / 2
    return exact(s.values[i]) * w + exact(s.values[j]) * (1 - w)
