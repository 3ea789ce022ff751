"""Calls of other libraries, converted."""

from __future__ import annotations

import golden
import numpy as np
import pytest

import jaxsched as js
from jaxsched.command import convert


def test_a_call_of_another_library_is_converted():
    out = convert("torch", "CosineAnnealingWarmRestarts(T_0=10, T_mult=2, eta_min=1e-5)", 0.1)
    theirs, ours = both_lines(out)
    assert theirs == ours == js.compat.torch.CosineAnnealingWarmRestarts(0.1, 10, 2, 1e-5)
    assert "fix=True" not in out and "give steps_per_epoch" in out
    assert "give steps_per_epoch" not in convert("torch", "OneCycleLR(o, 0.1, 100)")
    told = (
        convert("hf", "get_scheduler('cosine', o, 1, 9)", 1.0),
        convert("hf", "cosine(o, 1, 9)", 1),
    )
    assert told[0].split("\n")[3] == told[1].split("\n")[3]
    epochs = js.Epochwise(js.compat.torch.StepLR(0.5, 30), 10)
    assert both_lines(convert("torch", "StepLR(o, 30)", 0.5, steps_per_epoch=10)) == (epochs,) * 2
    rising = convert("torch", "CosineAnnealingLR(T_max=100)", lr=0.1)
    assert "With fix=True the values differ from step 101 on" in rising
    assert rising.endswith("js.Cosine(0.1, 0.0, 100)")
    fit = "learn.fit_one_cycle(10, 1e-3)"
    assert both_lines(convert("fastai", fit, steps_per_epoch=100))[1].duration == 1000
    by_batches = convert("composer", "LinearScheduler(t_max='2ep')", 0.5, steps_per_epoch=7)
    assert both_lines(by_batches)[0] == 0.5 * js.Linear(1.0, 0.0, 14)
    alias = convert("hf", "get_constant_schedule(optimizer)", lr=0.1)
    assert alias.startswith("js.compat.transformers.constant(lr=0.1)\n")
    assert convert("keras", "PolynomialDecay(0.1, 9, cycle=True)").splitlines()[1][:5] == "none:"


WD = "start_wd=0, end_wd=1, wd_incr_steps=9, wd_incr_style='linear'"


@pytest.mark.parametrize(
    ("library", "text", "lr", "told"),
    [
        (
            "composer",
            "LinearScheduler(t_max='9ba')",
            None,
            "It is a factor of the optimizer's rate",
        ),
        ("composer", "LinearScheduler(t_max='9tok')", 0.1, "Its steps are samples or tokens"),
        ("torch", "OneCycleLR(o, 0.1, 90)", 0.2, "lr=0.2 has no effect"),
        (
            "torch",
            "OneCycleLR(o, 0.1, 9)",
            None,
            "too: js.compat.torch.OneCycleLR_momentum(",
        ),
        ("torch", "CyclicLR(o, 0.1, 9)", None, "momentum moves, too"),
        ("fastai", "learn.fit_one_cycle(10, 1e-3)", None, "It has one update an epoch"),
        ("fvcore", "CosineParamScheduler(.1, .01)", None, "curve over the fraction of a run"),
        (
            "megatron",
            f"OptimizerParamScheduler(o, 0, 1, 0, 1, 9, 'cosine', {WD})",
            None,
            f"The weight decay is js.compat.megatron.get_wd({WD}).",
        ),
    ],
)
def test_a_conversion_says_what_the_line_does_not(library, text, lr, told):
    assert told in convert(library, text, lr)


CT = js.compat.torch

JOINED = CT.SequentialLR([CT.LinearLR(0.5), CT.StepLR(0.5, 2)], [7])


@pytest.mark.parametrize(
    ("library", "text", "made"),
    [
        (
            "pytorch",
            "s = optim.lr_scheduler.SequentialLR(self.opt, [StepLR(o, 3), StepLR(o, 2)], [7])",
            CT.SequentialLR([CT.StepLR(0.5, 3), CT.StepLR(0.5, 2)], [7]),
        ),
        ("torch", "StepLR(o, step_size=3*30)  # decay", CT.StepLR(0.5, 90)),
        (
            "torch",
            "import a\nlr = 0.5; opt = SGD(m.p(), lr)\nself.s: Any = StepLR(opt, 9, lr)",
            CT.StepLR(0.5, 9, 0.5),
        ),
        ("torch", "o = SGD(m, lr=args.lr * 8)\ns = StepLR(o, 9)", CT.StepLR(4.0, 9)),
        ("torch", "o = SGD(m, lr=base)\ns = StepLR(o, 9)", CT.StepLR(0.5, 9)),
        (
            "composer",
            "o = DecoupledSGDW(m, lr=args.lr / 5)\ns = LinearScheduler(t_max='9ba')",
            0.1 * js.Linear(1.0, 0.0, 9),
        ),
        (
            "optax",
            "tx = optax.adamw(cosine_decay_schedule(1, 9), b1=0.8)",
            js.Cosine(1.0, 0.0, 9),
        ),
        ("keras", "lr = CosineDecay(0.1, 9)\nSGD(learning_rate=lr)", js.Cosine(0.1, 0, 9)),
        ("torch", "a = LinearLR(o)\nb = StepLR(o, 2)\nSequentialLR(o, [a, b], [7])", JOINED),
        # A name has the value that it was given last.
        ("torch", "n = 1\nn = 2\nStepLR(o, n)", CT.StepLR(0.5, 2)),
        ("torch", "c = {'n': [1, 2]}\nd = c['n']\nStepLR(o, d[1])", CT.StepLR(0.5, 2)),
        ("torch", "from a.b import StepLR as L, max as min\nL(o, min(1, 2))", CT.StepLR(0.5, 2)),
        ("torch", "import torch.optim as t\nt.StepLR(t.SGD(p, 5e-1), 2)", CT.StepLR(0.5, 2)),
        ("torch", "m = Net()\no = build(m.parts())\nStepLR(o, 2)", CT.StepLR(0.5, 2)),
        ("torch", "s = StepLR(o[0], math.ceil(1.5))\nreturn [o], [s]", CT.StepLR(0.5, 2)),
        ("torch", "StepLR(o, 9, cfg['lr'] * 10**-1, last_epoch=-1)", CT.StepLR(0.5, 9, 0.05)),
        (
            "torch",
            "self.o = SGD(self.p(), 0.5)\nx = self.f()\nStepLR(self.o, 2)",
            CT.StepLR(0.5, 2),
        ),
        ("torch", ">>> o = SGD(p, 0.5)\n>>> StepLR(o,\n...   2)\n%time", CT.StepLR(0.5, 2)),
        ("fastai", "l = f(d)\nl.fit_one_cycle(9, 1.0)", js.compat.fastai.fit_one_cycle(9, 1.0)),
        ("keras", "CosineDecay(args.learning_rate, 9)", js.compat.keras.CosineDecay(0.5, 9)),
        (
            "hf",
            "get_scheduler(SchedulerType.LINEAR, o, 1, 9)",
            js.compat.transformers.linear(0.5, 1, 9),
        ),
        ("torch", "OneCycleLR(optimizer, 0.1, 1000)", CT.OneCycleLR(0.1, 1000)),
        ("torch", "CyclicLR(optimizer, base_lr=0.1, max_lr=1)", CT.CyclicLR(0.1, 1)),
        ("torch", "ReduceLROnPlateau(opt, 'min')", CT.ReduceLROnPlateau(0.5, mode="min")),
        (
            "hf",
            "get_scheduler('linear', optimizer=opt, num_warmup_steps=1, num_training_steps=9)",
            js.compat.transformers.linear(0.5, 1, 9),
        ),
        (
            "optax",
            "optax.piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.1})",
            js.compat.optax.piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.1}),
        ),
        (
            "optax",
            "s = optax.constant_schedule(0.1)\noptax.adamw(learning_rate=s)",
            js.compat.optax.constant_schedule(0.1),
        ),
        (
            "optax",
            "sgdr_schedule([dict(init_value=0, peak_value=1, warmup_steps=2, decay_steps=9)] )",
            js.compat.optax.sgdr_schedule(
                [dict(init_value=0, peak_value=1, warmup_steps=2, decay_steps=9)]
            ),
        ),
    ],
)
def test_a_call_is_pasted_as_it_stands_in_a_program(library, text, made):
    assert both_lines(convert(library, text, 0.5)) == (made, made)


def both_lines(text):
    return tuple(eval(line, {"js": js, "np": np}) for line in text.splitlines()[:2])


DRAWS = {
    (library, case["name"]): case["arguments"]
    for library in golden.LIBRARIES
    for case in golden.read(library)
    if "function" not in str(case["arguments"]) and "cycle" not in case["arguments"]
}


@pytest.mark.parametrize(("library", "name"), DRAWS)
def test_the_line_of_pieces_is_the_drop_in_and_its_json_too(library, name):
    arguments = {k: v for k, v in DRAWS[library, name].items() if k != "metrics"}
    made = golden.ours(library, name, arguments)
    text = convert(library, call(name, arguments))
    assert both_lines(text) == (made, made)
    assert js.from_config(js.to_dict(made)) == made


def call(name, arguments):
    return f"{name}({', '.join(f'{k}={written(x)}' for k, x in arguments.items())})"


def written(x):
    if isinstance(x, list):
        return f"[{', '.join(map(written, x))}]"
    if isinstance(x, dict) and "schedule" in x:
        return call(x["schedule"], x["arguments"])
    return str({int(k): v for k, v in x["of_step"].items()}) if "of_step" in str(x) else repr(x)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("StepLR(optimizer, 30)", r"convert\(lr=...\) must be given, the rate of the optimizer"),
        (
            "LambdaLR(optimizer, lambda e: 0.9**e)",
            r"must have no functions, got .* js\.compat\.torch\.LambdaLR\.$",
        ),
        (
            "f = lambda e: 1\nLambdaLR(optimizer, f)",
            r"must have no functions, got lambda e: 1 .*LambdaLR\.$",
        ),
        ("opt * 2", "must be a call of a schedule of torch, as `jaxsched names"),
        (
            "a0 = [1];"
            + "".join(f"a{i + 1} = [a{i}, a{i}];" for i in range(50))
            + "StepLR(o, a50)",
            "at most 10000 values",
        ),
        ("StepLR(o, 3, **k)", r"in place of \*\*k \(line 1\)"),
        ("StepLR(o, 3 if x else 4)", r"in place of 3 if x else 4 \(line 1\)"),
        ("MultiStepLR(o, [3] * 2)", r"in place of \[3\] \* 2"),
        ("MultiStepLR(o, [i for i in x])", r"in place of \[i for i in x\] \(line 1\)"),
        ("StepLR(SGD(m, 0.1, lr=0.1), 3)", r"must have one rate in SGD\(...\), got two"),
        ("StepLR(SGD(m, **k), 3)", r"in place of \*\*k"),
        ("SequentialLR(o, [LinearLR(o), OneCycleLR(o, 1, 9)], [5])", "no OneCycleLR within"),
        (
            "StepLR(opt, n)",
            "in place of n, which only the program knows: write it there, or before",
        ),
        (
            "a = StepLR(o, 3)\nb = ExponentialLR(o, 0.9)",
            r"one schedule, got StepLR\(o, 3\) \(line 1\) and Expon",
        ),
        (
            "[o], [StepLR(o, 3), StepLR(o, 4)]",
            r"one schedule, got .* and StepLR\(o, 4\) \(line 1\)",
        ),
        ("StepLR(SGD([{'params': a, 'lr': 1}], lr=0.1), 4)", "one rate, got groups"),
        ("StepLR(SGD([{'params': x, 'lr': 1} for x in p], 0.1), 4)", "one rate, got groups"),
        ("StepLR(SGD([{**g, 'lr': 1}], 0.1), 4)", "one rate, got groups"),
        ("StepLR(SGD([dict(g, lr=1)], 0.1), 4)", "one rate, got groups"),
        ("StepLR(SGD([g | {'lr': 1}], 0.1), 4)", "one rate, got groups"),
        ("a = StepLR(o, 3)\nChainedScheduler([a, a])", "each schedule in one place, got one twice"),
        ("a = LinearLR(o)\nb = a\nSequentialLR(o, [a, b], [7])", "in one place, got one twice"),
        (
            "o = SGD(p, 0.1)\nq = SGD(p, 0.1)\nSequentialLR(o, [LinearLR(o), StepLR(q, 3)], [5])",
            r"one optimizer, got SGD\(p, 0.1\) \(line 1\) and SGD\(p, 0.1\) \(line 2\)",
        ),
        ("o = SGD(p, head.lr)\nCosineAnnealingLR(o, 9, body.lr)", "one name of the text, got body"),
        ("StepLR(LBFGS(p, 0.5), 3)", "as in the text, 0.5, or left out, got 0.1"),
        ("StepLR(o, round(9, -999999999))", "step_size=...\\) must be at least 1"),
        ("StepLR(o, lambda_e)", "in place of lambda_e"),
        ("n = 3\n  n = 4\nStepLR(o, n)", "unexpected indent"),
        ("StepLR(SGD(m, lr=0.2), 4)", "as in the text, 0.2, or left out, got 0.1"),
        ("lr = 1e-3; CosineAnnealingLR(opt, 90, eta_min=lr/100)", "as in the text, 0.001, or"),
        ("o = SGD(m, lr=args.lr * world)\nStepLR(o, 4)", "in place of world"),
        ("[StepLr(o, 3)]", "did you mean torch.StepLR"),
        ("StepLR(opt, 3, last_epoch=5)", "a schedule has no state"),
        (__file__, r'in a shell by "\$\(cat '),
        ("StepLR(opt, 30, 0.1, 9)", r"takes \(base_lr, step_size, gamma\), got 4"),
    ],
)
def test_a_call_that_cannot_be_converted_is_told_why(text, said):
    with pytest.raises((ValueError, TypeError), match=said):
        convert("torch", text, None if "must be given" in said else 0.1)


@pytest.mark.parametrize(
    ("library", "text"),
    [
        # What may give a value elsewhere than in its line.
        ("torch", "|if x:|\n  n = 9\nStepLR(o, n)"),
        ("torch", "|a, b = f()|\nStepLR(o, a)"),
        ("torch", "|a = b = 1|\nStepLR(o, a)"),
        ("torch", "n = 3\n|n += 1|\nStepLR(o, n)"),
        ("torch", "n = 3\nm = [|(n := 4)|]\nStepLR(o, n)"),
        ("torch", "n = 3\nm: |(n := 4)| = 1\nStepLR(o, n)"),
        ("torch", "self.n = 3\n|self = m|\nStepLR(o, self.n)"),
        ("torch", "n = 3\nx = |globals().update(n=4)|\nStepLR(o, n)"),
        ("torch", "n = 3\n|await f()|\nStepLR(o, n)"),
        ("torch", "n = 3\n|from cfg import *|\nStepLR(o, n)"),
        ("torch", "n = 3\n|exec('n = 9')|\nStepLR(o, n)"),
        ("torch", "c = {'n': 3}\n|c['n'] = 4|\nStepLR(o, c['n'])"),
        ("torch", "ms = [30]\n|ms.append|(90)\nMultiStepLR(o, ms)"),
        ("torch", "ms = [30]\nm = ms\nx = |shuffle(m)|\nMultiStepLR(o, ms)"),
        ("torch", "|def f(e):| return 1\nLambdaLR(o, f)"),
        # What may change a schedule or its optimizer.
        ("torch", "s = StepLR(o, 3)\n|s.gamma = 0.5|"),
        ("torch", "self.s = StepLR(o, 3)\n|self.s.gamma = 0.5|"),
        ("torch", "s = StepLR(o, 3)\n|s.step|()"),
        ("torch", "s = StepLR(o, 3)\n|for i in r:|\n  s.step()"),
        ("torch", "s = StepLR(o, 3)\nt = s\nx = |f(t)|"),
        ("torch", "s = StepLR(o, 3)\nx = |f(o)|"),
        ("torch", "o = build(m)\np = o\nStepLR(o, 3)\nx = |p.add(g)|"),
        ("torch", "p = o\nStepLR(o, 3)\nx = |f(p)|"),
        ("torch", "t = T(m)\nu = t\nStepLR(t.o, 3)\nx = |f(u.o)|"),
        ("torch", "t = T(m)\nStepLR(t.o, 3)\nx = |f(t.o)|"),
        ("torch", "o = SGD(m, 0.1)\ns = StepLR(o, 3)\n|o.param_groups[0]['lr'] = 1|"),
        ("torch", "|Warmed(o, 5, StepLR(o, 4))|"),
        ("torch", "StepLR(|Look(LinearLR(o))|, 3)"),
        ("torch", "a = StepLR(o, 3)\nb = |[ExponentialLR(o, g) for g in gs]|"),
        ("torch", "|{'scheduler': StepLR(o, 3), 'frequency': 2}|"),
        ("optax", "s = linear_schedule(1, 0, 9)\n|chain(adam(s), scale(0.5))|"),
        ("optax", "s = linear_schedule(1, 0, 9)\n|adam(0.1, b1=s)|"),
        ("optax", "s = linear_schedule(1, 0, 9)\n|adamw(s, weight_decay=s)|"),
        ("optax", "s = linear_schedule(1, 0, 9)\nadam(|0.5 * s|)"),
        ("optax", "s = linear_schedule(1, 0, 9)\nadam(|lambda t: s(t) / 2|)"),
        ("keras", "s = CosineDecay(1, 9)\n|m.compile(SGD(s))|"),
    ],
)  # fmt: skip
def test_a_line_that_may_change_the_curve_is_refused(library, text):
    before, told, _ = text.split("|")
    with pytest.raises(ValueError, match="must be a call of a schedule, with at most") as error:
        convert(library, text.replace("|", ""), 0.1)
    assert f"got `{told}` in line {1 + before.count(chr(10))}: leave it out" in str(error.value)


@pytest.mark.parametrize(
    ("text", "values", "made"),
    [
        ("StepLR(o, 3 * len(loader))", {"len(loader)": 4}, CT.StepLR(0.1, 12)),
        ("StepLR(o, args.n, cfg['g'])", {"args.n": 5, "cfg['g']": 0.5}, CT.StepLR(0.1, 5, 0.5)),
    ],
)
def test_what_only_the_program_knows_is_given(text, values, made):
    assert both_lines(convert("torch", text, 0.1, values=values))[0] == made


def test_the_scheduler_of_diffusers_gives_its_cycles_to_those_that_have_them():
    text = "get_scheduler('{}', optimizer=o, num_warmup_steps=1, num_training_steps=9, "
    text += "num_cycles=args.cycles, power=2.0)"
    ours = js.compat.transformers
    for kind, made in {
        "linear": ours.linear(0.1, 1, 9),
        "polynomial": ours.polynomial(0.1, 1, 9, power=2.0),
        "cosine_with_restarts": ours.cosine_with_restarts(0.1, 1, 9, num_cycles=3),
    }.items():
        values = {"args.cycles": 3} if "restarts" in kind else {}
        assert both_lines(convert("hf", text.format(kind), 0.1, values=values))[0] == made


def test_a_value_that_the_text_does_not_ask_for_is_refused():
    for text in ("StepLR(o, 3)", "n = 3\nStepLR(o, n)", "c = {'n': 3}\nStepLR(o, c['n'])"):
        n = "c.n" if "c" in text else "n"
        with pytest.raises(
            ValueError, match=r"of the text that the schedule asks for, got '(c.)?n'"
        ):
            convert("torch", text, 0.1, values={n: 3})
    with pytest.raises(ValueError, match=r"got `f\(o\)` in line 1: leave it out"):
        convert("torch", "StepLR(o, f(o))", 0.1, values={"f(o)": 3})
