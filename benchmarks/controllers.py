"""Does the averaging gap foretell a decay's gain, and do rules that watch match a known horizon?

    python -m benchmarks.controllers counterfactual --steps 1000 --seeds 4   # a minute
    python -m benchmarks.controllers rules --seeds 6                         # three minutes
    python -m benchmarks.controllers rules --data mnist1d --optimizer adam --only cosine Auto

    python -m benchmarks.controllers cost                                    # seconds

*counterfactual*: training at constant rates; from the end of each window of 100 updates two
branches go on for 100 updates, one at the same rate ("stay") and one at a tenth of it ("drop").
The gain of a decay is log(stay / drop), a loss on 1000 training examples. What was known before the
branch (the averaging gap) is compared with it.

*rules*: the same model, data, seeds and budget under every rule; a rule gets the validation loss
of the weights, and of the window's mean of them, every 50 updates. Test accuracy of the last
weights, and of the mean of the last window's weights.
"""

from __future__ import annotations

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxsched as js
from benchmarks import versions
from examples import datasets
from jaxsched.controllers import AutoDecay, Average, Bounce, Greedy, NewBob, Plateau, averaging_gap

WIDTH, BATCH, DROP = 64, 32, 0.1
PEAKS = {
    ("letter", "sgd"): (0.02, 0.04, 0.08),
    ("letter", "adam"): (0.0031, 0.0078, 0.0195),
    ("mnist1d", "sgd"): (0.04, 0.08, 0.16),
    ("mnist1d", "adam"): (0.0025, 0.00625, 0.0156),
}


def init(key, sizes):
    """A perceptron: a list of (matrix, bias)."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (m, n)) * jnp.sqrt(2.0 / m), jnp.zeros(n))
        for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def logits(weights, x):
    for matrix, bias in weights[:-1]:
        x = jax.nn.relu(x @ matrix + bias)
    matrix, bias = weights[-1]
    return x @ matrix + bias


def losses(weights, part):
    return optax.softmax_cross_entropy_with_integer_labels(logits(weights, part.x), part.y)


def accuracy(weights, part):
    return 100.0 * jnp.mean(jnp.argmax(logits(weights, part.x), -1) == part.y)


def gradient_step(tx):
    """One update at a given rate; ``tx`` makes the direction."""

    def step(weights, moments, batch, rate):
        grads = jax.grad(lambda w: jnp.mean(losses(w, batch)))(weights)
        updates, moments = tx.update(grads, moments, weights)
        return jax.tree.map(lambda w, u: w - rate * u, weights, updates), moments

    return step


def orders(seeds, first, steps, rows):
    """Which rows each update takes: epochs without replacement, the same under every rule."""
    need = steps * BATCH
    order = [
        np.concatenate(
            [np.random.RandomState(1000 * s + e).permutation(rows) for e in range(need // rows + 1)]
        )[:need]
        for s in range(first, first + seeds)
    ]
    return np.stack(order).reshape(seeds, steps, BATCH).astype(np.int32)


def setting(args):
    data = jax.tree.map(jnp.asarray, datasets.load(args.data))
    tx = {"sgd": optax.trace(0.9), "adam": optax.scale_by_adam()}[args.optimizer]
    sizes = (data.train.x[0].size, WIDTH, WIDTH, data.classes)
    peaks = args.peaks or PEAKS[args.data, args.optimizer]
    order = orders(args.seeds, args.first, args.steps, len(data.train.y))
    return data, tx, sizes, jnp.asarray(peaks, jnp.float32), jnp.asarray(order)


# -------------------------------------------------------------------------------- counterfactual


def counterfactual(args):
    window = args.window or 100
    data, tx, sizes, peaks, order = setting(args)
    step = gradient_step(tx)
    probe = jax.tree.map(lambda x: x[:1000], data.train)
    blocks = order.reshape(args.seeds, -1, window, BATCH)

    def run(weights, moments, rows, rate):
        def body(carry, row):
            weights, moments, average = carry
            batch = jax.tree.map(lambda x: x[row], data.train)
            weights, moments = step(weights, moments, batch, rate)
            return (weights, moments, average.add(weights)), None

        carry = (weights, moments, Average.start(weights))
        return jax.lax.scan(body, carry, rows)[0]

    def member(rate, seed, blocks):
        weights = init(jax.random.key(seed), sizes)

        def body(carry, pair):
            rows, following = pair
            weights, moments, average = run(carry[0], carry[1], rows, rate)
            here, there = losses(weights, probe), losses(average.mean, probe)
            gap = averaging_gap(here, there)
            ends = [
                jnp.mean(losses(run(weights, moments, following, rate * f)[0], probe))
                for f in (1.0, DROP)
            ]
            gain = jnp.log(ends[0]) - jnp.log(ends[1])
            return (weights, moments), (gap.value, gap.error, gain, jnp.mean(here))

        return jax.lax.scan(body, (weights, tx.init(weights)), (blocks[:-1], blocks[1:]))[1]

    @jax.jit
    def program(blocks):
        seeds = args.first + jnp.arange(args.seeds)
        return jax.lax.map(
            lambda sb: jax.vmap(member, (0, None, None))(peaks, sb[0], sb[1]), (seeds, blocks)
        )

    gap, error, gain, loss = (np.asarray(x) for x in program(blocks))
    print(f"{args.data} {args.optimizer}: {gap.size} points, windows of {window}")
    print(f"{'rate':>9} {'loss':>7} {'gap':>6} {'+-':>6} {'gain':>6}   (mean over seeds, windows)")
    for i, peak in enumerate(peaks):
        row = [x[:, i].mean() for x in (loss, gap, error, gain)]
        print(f"{float(peak):9.4g} {row[0]:7.3f} {row[1]:6.3f} {row[2]:6.3f} {row[3]:6.3f}")
    x, y = gap.ravel(), gain.ravel()
    slope, intercept = np.polyfit(x, y, 1)
    print(f"correlation {np.corrcoef(x, y)[0, 1]:.3f}, gain = {slope:.2f} gap {intercept:+.3f}")
    print(f"bouncing (gain > 0.1): {np.mean(y > 0.1):.2f}; AUC of the gap {auc(x, y > 0.1):.3f}")
    found = x > 0.1
    right = 0.5 * (np.mean(found[y > 0.1]) + np.mean(~found[y <= 0.1]))
    print(f"balanced accuracy at the fixed threshold of 0.1 nats: {right:.3f}")


def auc(score, label):
    """The chance that a point with the label has the higher score."""
    order = np.argsort(np.argsort(score)) + 1.0
    n, m = label.sum(), (~label).sum()
    return (order[label].sum() - n * (n + 1) / 2) / (n * m)


# ------------------------------------------------------------------------------------------ rules


def rules(steps):
    """Name: what makes the controller of a peak, and which loss it watches."""

    def fixed(schedule):  # never cut
        return lambda peak: Plateau(schedule(peak), patience=steps)

    def plateau(factor):
        return lambda peak: Plateau(peak, factor, patience=1, rtol=0.01)

    return {
        "constant": (fixed(js.constant), "raw"),
        "cosine, known horizon": (fixed(lambda peak: js.cosine_decay(peak, steps)), "raw"),
        "Plateau x0.3, raw": (plateau(0.3), "raw"),
        "Plateau x0.3, averaged": (plateau(0.3), "averaged"),
        "Plateau x0.7, raw": (plateau(0.7), "raw"),
        "Plateau x0.7, averaged": (plateau(0.7), "averaged"),
        "AutoDecay": (AutoDecay, "raw"),
        "NewBob": (lambda peak: NewBob(peak, 0.5, patience=1), "raw"),
        "Greedy": (lambda peak: Greedy(peak, 0.7, patience=1), "raw"),
        "Bounce": (lambda peak: Bounce(peak, 0.3, every=8), "raw"),  # about an epoch of Letter
    }


def compare(args):
    window = args.window or 50
    data, tx, sizes, peaks, order = setting(args)
    step = gradient_step(tx)
    blocks = order.reshape(args.seeds, -1, window, BATCH)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def program(make, watched, blocks):
        def member(peak, seed, blocks):
            controller = make(peak)
            weights = init(jax.random.key(seed), sizes)

            def update(carry, row):
                weights, moments, average, state = carry
                batch = jax.tree.map(lambda x: x[row], data.train)
                weights, moments = step(weights, moments, batch, controller(state))
                return (weights, moments, average.add(weights), controller.update(state)), None

            def body(carry, rows):
                carry = (*carry[:2], carry[2].restart(), carry[3])
                (weights, moments, average, state), _ = jax.lax.scan(update, carry, rows)
                raw = jnp.mean(losses(weights, data.val))
                averaged = jnp.mean(losses(average.mean, data.val))
                value = raw if watched == "raw" else averaged
                norm = sum(jnp.sum(x * x) for x in jax.tree.leaves(weights))
                state = controller.observe(state, value=value, averaged=averaged, norm=norm)
                return (weights, moments, average, state), (state.scale, raw, averaged)

            carry = (weights, tx.init(weights), Average.start(weights), controller.init())
            (weights, _, average, _), history = jax.lax.scan(body, carry, blocks)
            scores = accuracy(weights, data.test), accuracy(average.mean, data.test)
            return *scores, *history

        return jax.lax.map(
            lambda sb: jax.vmap(member, (0, None, None))(peaks, sb[0], sb[1]),
            (args.first + jnp.arange(args.seeds), blocks),
        )

    print(f"{args.data} {args.optimizer}: {args.steps} updates, {args.seeds} seeds, test accuracy")
    print("(of the mean of the last window's weights) [first cut at, last scale], per peak")
    print(f"{'':24}" + "".join(f"{float(peak):^42.4g}" for peak in peaks))
    table = {}
    for name, (make, watched) in rules(args.steps).items():
        if args.only and not any(word in name for word in args.only):
            continue
        start = time.perf_counter()
        last, mean, scale, _, _ = (np.asarray(x) for x in program(make, watched, blocks))
        cells = []
        for i in range(len(peaks)):
            cut = np.mean(
                [int(np.argmax(s < 1)) / len(s) if s[-1] < 1 else 1.0 for s in scale[:, i]]
            )
            end = np.exp(np.log(scale[:, i, -1]).mean())
            cells.append(
                f"{last[:, i].mean():6.2f} +- {last[:, i].std(ddof=1):4.2f}"
                f" ({mean[:, i].mean():5.2f}) [{cut:4.2f}, {end:7.1e}]"
            )
        table[name] = np.stack([last.mean(0), mean.mean(0)])
        print(
            f"{name:24}" + "  ".join(cells) + f"  {time.perf_counter() - start:.0f} s", flush=True
        )
    if "cosine, known horizon" in table:
        print("short of cosine by, last weights (mean of the last window), per peak")
        for name, scores in table.items():
            short = table["cosine, known horizon"][0] - scores
            cells = [f"{a:+6.2f} ({b:+5.2f})" for a, b in zip(*short, strict=True)]
            print(f"{name:24}" + "  ".join(cells))


def cost(args):
    """What ``diagnose`` adds to training that is validated anyway: a mean, an evaluation of it."""
    window, kinds = 200, ("validated", "with the mean", "and its evaluation")
    for batch in (32, 256):
        x = jax.random.normal(jax.random.key(1), (2048, 64))
        data = datasets.Part(np.asarray(x), np.asarray(jnp.argmax(x[:, :10], axis=1)))
        held = datasets.Part(data.x[:512], data.y[:512])
        weights = init(jax.random.key(0), (64, 128, 128, 10))
        step = gradient_step(optax.trace(0.9))
        rows = jax.random.randint(jax.random.key(2), (5, window, batch), 0, len(x))

        def train(kind, weights, rows, data=data, held=held, step=step):
            def update(carry, row):
                weights, moments, average = carry
                batch = datasets.Part(data.x[row], data.y[row])
                weights, moments = step(weights, moments, batch, 0.05)
                return (weights, moments, average.add(weights) if kind else average), None

            def one_window(carry, rows):
                weights, moments, average = jax.lax.scan(update, carry, rows)[0]
                seen = [jnp.mean(losses(weights, held))]
                seen += [jnp.mean(losses(average.like(weights), held))] if kind == 2 else []
                return (weights, moments, average.restart()), seen

            carry = (weights, optax.trace(0.9).init(weights), Average.start(weights))
            return jax.lax.scan(one_window, carry, rows)

        compiled = [jax.jit(functools.partial(train, kind)) for kind in range(3)]
        times: list[list[float]] = [[], [], []]
        for _ in range(max(args.seeds, 8)):
            for kind, program in enumerate(compiled):
                begin = time.process_time()
                jax.block_until_ready(program(weights, rows))
                times[kind].append(time.process_time() - begin)
        least = [min(t[1:]) for t in times]
        shown = ", ".join(f"{k} {1e3 * t:.1f} ms" for k, t in zip(kinds, least, strict=True))
        ratios = " and ".join(f"{t / least[0]:.3f}" for t in least[1:])
        print(f"MLP 64-128-128-10, batch {batch}, windows of {window}: {shown} -> {ratios}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["counterfactual", "rules", "cost"])
    parser.add_argument("--data", default="letter", choices=["letter", "mnist1d"])
    parser.add_argument("--optimizer", default="sgd", choices=["sgd", "adam"])
    parser.add_argument("--peaks", type=float, nargs="*")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first", type=int, default=100, help="the first seed")
    parser.add_argument("--window", type=int)
    parser.add_argument("--only", nargs="*", help="rules whose name has one of these in it")
    args = parser.parse_args()
    print(versions())
    {"counterfactual": counterfactual, "rules": compare, "cost": cost}[args.what](args)


if __name__ == "__main__":
    main()
