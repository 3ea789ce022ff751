"""Hypothesis strategies: random numbers, pieces and compositions. A new node joins here."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import jaxsched as js


def rates(least=1e-8, most=10.0):
    """Positive float32 values, spread over the decades."""
    exponents = st.floats(np.log10(least), np.log10(most))
    return exponents.map(lambda e: float(np.float32(10.0**e)))


lengths = st.one_of(st.integers(1, 10), st.integers(11, 2000), st.integers(2001, 10**7))
fractions = st.floats(0.05, 0.95).map(lambda x: float(np.float32(x)))

SHAPES = (
    js.Linear,
    js.Cosine,
    js.Polynomial,
    js.Sqrt,
    js.Rex,
    js.HalfCosine,
    js.QuarterCosine,
    js.MirrorCosine,
    js.ShiftedExponential,
    js.Logarithmic,
    lambda start, end, steps: js.Hyperbolic(start, end, steps, bound=2 * steps),
    js.Geometric,
    js.Harmonic,
    js.Tanh,
)
shapes = st.builds(
    lambda cls, start, end, steps: cls(start, end, steps),
    st.sampled_from(SHAPES),
    rates(),
    rates(),
    lengths,
)
pieces = st.one_of(shapes, st.builds(js.Constant, rates(), lengths))
laws = st.one_of(
    st.builds(js.Constant, rates()),
    st.builds(js.InverseSqrt, rates(), lengths),
    st.builds(js.InverseTime, rates(), lengths),
    st.builds(lambda v, n: js.Exponential(v, -1.0 / n), rates(), st.integers(100, 10**6)),
    st.builds(lambda v, n: js.PowerLaw(v, -0.5, float(n)), rates(), lengths),
)


def wrapped(inner):
    return st.one_of(
        st.builds(lambda a, b: a >> b, inner, inner),
        st.builds(lambda a, b: js.RightClosed([a, b]), inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(js.minimum, inner, inner),
        st.builds(js.maximum, inner, inner),
        st.builds(lambda a, p: a**p, inner, st.sampled_from([-1.0, 0.5, -0.7])),
        st.builds(js.Stretch, inner, st.sampled_from([0.5, 1.5, 2.0, 3.0])),
        st.builds(js.Shift, inner, st.integers(0, 1000)),
        st.builds(js.Window, inner, st.integers(0, 50), st.integers(50, 5000)),
        st.builds(lambda s, v: js.Clip(s, low=v), inner, rates()),
        st.builds(js.Quantize, inner, st.integers(1, 100)),
        st.builds(js.Epochwise, inner, st.integers(1, 100)),
        st.builds(js.Noisy, inner, fractions, seed=st.integers(0, 2**31 - 1)),
        st.builds(lambda s, t, p: js.Paced(s, [t], [1.5, p]), inner, lengths, fractions),
        st.builds(js.Reverse, inner),
        st.builds(
            lambda s, g, d: js.Repeat(s, g, d), pieces, st.sampled_from([1.0, 2.0, 3.0]), fractions
        ).map(lambda s: js.Window(s, 0, 10**6)),
    )


finite = st.recursive(pieces, wrapped, max_leaves=5)
schedules = st.one_of(finite, laws, st.builds(lambda a, b: a >> b, finite, laws))
