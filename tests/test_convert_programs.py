"""Whole programs, converted: functions, classes, literal containers and options of the text."""

from __future__ import annotations

import pytest
from test_convert import CT, both_lines

import jaxsched as js
from jaxsched.command import convert

SKIPPED = """
import torch
class Model(nn.Module):
    def __init__(self, lr):
        self.lr, self.seen = lr, 0
        self.body = Body().cuda()
    def forward(self, x):
        x = self.body(x)
        return x if x else None
    def configure_optimizers(self):
        ms = [30, 60]
        print(f"{len(ms)} drops", max(ms))
        optimizer: Any = SGD([p for p in self.parameters()], lr=0.1)
        scheduler = MultiStepLR(optimizer, ms)
        optimizer.zero_grad()
        self.body.eval()
        lrs = scheduler.get_last_lr()
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
for batch in loader:
    other = OneOf(batch)
"""
LOOP = """
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60])
for epoch in range(90):
    for batch in loader:
        optimizer.zero_grad()
        model(batch).backward()
        if torch.isnan(loss):
            continue
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
    scheduler.step(1 + epoch)
    if epoch % 10 == 0:
        print(scheduler.get_last_lr(), optimizer.param_groups[0]["lr"])
    wandb.log({"lr": scheduler.get_last_lr()[0], "same": optimizer.param_groups[0]["lr"]})
"""


def test_lines_without_the_names_of_the_schedule_are_skipped():
    expected = CT.MultiStepLR(0.1, [30, 60])
    assert both_lines(convert("torch", SKIPPED)) == (expected, expected)
    assert both_lines(convert("torch", LOOP)) == (expected, expected)
    hf = "s = linear(o, 1, 9)\nfor i in r:\n  f()\n  if i % 4 == 0:\n    o.step()\n    s.step()"
    assert both_lines(convert("hf", hf, 0.1))[0] == js.compat.transformers.linear(0.1, 1, 9)
    timm = "s = CosineLRScheduler(o, 9)\nfor e in r:\n  train()\n  s.step(e + 1)"
    assert both_lines(convert("timm", timm, 0.1))[0] == js.compat.timm.CosineLRScheduler(0.1, 9)
    keras = "s = ReduceLROnPlateau(patience=5)\nm.fit(x, callbacks=[s, EarlyStopping(9)])"
    assert both_lines(convert("keras", keras, 0.1))[0].patience == 5
    optax = "s = linear_schedule(1, 0, 9)\nt = chain(clip(1), scale_by_schedule(s), scale(-1))\n"
    optax += "state = t.init(params)\nup, state = t.update(grads, state)"
    assert both_lines(convert("optax", optax))[0] == js.Linear(1.0, 0.0, 9)


MNIST = """
def train(args, model, device, loader, optimizer, epoch):
    model.train()
    for batch, target in loader:
        optimizer.zero_grad()
        loss(model(batch), target).backward()
        optimizer.step()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--drop-gamma", default=0.7)
    args = parser.parse_args()
    kwargs = {"batch_size": 64}
    kwargs.update(more)
    model = Net().to(device)
    optimizer = Adadelta(model.parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.drop_gamma)
    for epoch in range(1, 9):
        train(args, model, device, DataLoader(data, **kwargs), optimizer, epoch)
        scheduler.step()
if __name__ == "__main__":
    main()
"""
TRAINER = """
class Trainer:
    def __init__(self, optimizer, scheduler):
        self.optimizer, self.scheduler = optimizer, scheduler
    def epoch(self):
        for batch in loader:
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
def build(model, n, rate=0.1):
    optimizer = SGD(model.parameters(), lr=rate)
    return optimizer, StepLR(optimizer, n)
config = {"n": 30}
optimizer, scheduler = build(model, config["n"])
model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
trainer = Trainer(optimizer, scheduler)
trainer.epoch()
"""
FLAX = """
def create(config):
    s = optax.warmup_cosine_decay_schedule(0.0, config.rate, 10, 100)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(s, weight_decay=0.1))
    return TrainState.create(apply_fn=f, params=p, tx=tx), s
@jax.jit
def step(state, batch):
    return state, {"lr": s(state.step)}
class Config:
    rate = 0.3
state, s = create(Config())
"""


def test_what_gets_the_schedule_in_a_program_is_read():
    text = convert("torch", MNIST)
    assert both_lines(text)[0] == CT.StepLR(1.0, 1, 0.7)
    assert "defaults of the text: args.drop_gamma = 0.7, args.lr = 1.0 (values= gives" in text
    given = convert("torch", MNIST, 0.5, values={"args.drop_gamma": 0.9})
    assert both_lines(given)[0] == CT.StepLR(0.5, 1, 0.9) and "defaults" not in given
    text = convert("torch", TRAINER)
    assert both_lines(text)[0] == CT.StepLR(0.1, 30) and "Accelerate steps it" in text
    peak = js.compat.optax.warmup_cosine_decay_schedule(0.0, 0.3, 10, 100)
    assert both_lines(convert("optax", FLAX))[0] == peak


@pytest.mark.parametrize(
    ("text", "values", "made"),
    [
        ("a, b = 1, 2\nStepLR(o, b)", {}, CT.StepLR(0.1, 2)),
        ("k = dict(gamma=1)\nStepLR(o, 3, **k)", {}, CT.StepLR(0.1, 3, 1)),
        ("cfg = {'n': 3}\nwandb.init(config=cfg)\nStepLR(o, cfg['n'])", {}, CT.StepLR(0.1, 3)),
        ("StepLR(o, 3 * len(loader))", {"len(loader)": 4}, CT.StepLR(0.1, 12)),
        ("if x: n = 3\nelse: n = 4\nStepLR(o, n)", {"n": 5}, CT.StepLR(0.1, 5)),
        ("from cfg import *\nn = 3\nStepLR(o, n)", {}, CT.StepLR(0.1, 3)),
        ("def f():\n  n = 4\nn = 3\nStepLR(o, n)", {}, CT.StepLR(0.1, 3)),
        ("if a: o = SGD(p)\nelse: o = Adam(p)\nStepLR(o, 3)", {}, CT.StepLR(0.1, 3)),
    ],
)
def test_a_value_is_read_where_the_text_has_it_or_given(text, values, made):
    assert both_lines(convert("torch", text, 0.1, values=values))[0] == made


@pytest.mark.parametrize(
    "line",
    [
        *("import n", "import a as n", "from a import b as n", "from a import *", "class n: pass"),
        *("def n(): pass", "n: int = 4", "n += 1", "[n := x for x in y]", "for n in y: pass"),
        *("with a as n: pass", "try: f()\nexcept E as n: pass", "match a:\n  case n: pass"),
        *("match a:\n  case [*n]: pass", "match a:\n  case {**n}: pass", "n, m = 4, 5"),
        *("def f():\n  global n\n  n = 4", "if a: n = 4", "while a: n = 4"),
    ],
)
def test_a_name_with_another_value_is_refused_whatever_gives_it(line):
    with pytest.raises(ValueError, match=r"in place of n \(line 1, "):
        convert("torch", f"n = 3\n{line}\nStepLR(SGD(p, 0.1), n)")


MADE = "s = StepLR(o, 3)\n"


@pytest.mark.parametrize(
    "text",
    [
        MADE + "def f(t):\n  |t.gamma = 1|\nf(s)",
        MADE + "def f(t):\n  |helper(t)|\nf(t=s)",
        MADE + "def f(*t): pass\n|f(s)|",
        MADE + "def f(t): return t\nt = f(s)\n|t.gamma = 1|",
        MADE + "def f(t): t.step()\n|for i in r:|\n  f(s)",
        MADE + "m, t = accelerator.prepare(m, s)\n|t.gamma = 1|",
        "class T:\n  def f(self):\n    self.s = StepLR(o, 3)\n    |adjust(self)|",
        "class T:\n  def __init__(self):\n    self.s = StepLR(o, 3)\nt = T()\n|t.s.gamma = 1|",
        MADE + "for i in r:\n  f()\n  |s.step(**kw)|",
        MADE + "for i in r:\n  f()\n  |if s is None:|\n    s.step()",
        MADE + "match s:\n  case t: t.gamma = 1".replace("match s:", "|match s:|"),
        "cfg = {'n': 3}\nStepLR(o, cfg['n'])\n|cfg.update(x)|",
    ],
)
def test_a_function_of_the_text_is_judged_by_its_body(text):
    before, told, _ = text.split("|")
    with pytest.raises(ValueError, match="its optimizer and their lists") as error:
        convert("torch", text.replace("|", ""), 0.1)
    assert f"got `{told}` in line {1 + before.count(chr(10))}: leave it out" in str(error.value)


def test_a_setting_that_the_text_writes_into_an_object_of_others_is_read():
    text = "config = wandb.config\nconfig.n = 3\nSGD(p, 0.1)\ns = StepLR(o, config.n)"
    assert both_lines(convert("torch", text, 0.1))[0] == CT.StepLR(0.1, 3)


@pytest.mark.parametrize(
    "text",
    [
        MADE + "for e in r:\n for b in x:\n  o.step()\n  if c: raise E\n  s.step()",
        MADE + "def f():\n for b in x:\n  if c: return\n  o.step()\n  s.step()\nfor e in r: f()",
        MADE + "class T:\n  def f(self):\n    self.q: int",
        MADE + "class T(Trainer):\n  def __init__(self, q): super().__init__(q)\nT(o)",
        "@dataclass\nclass C:\n  n: int = 3\nx = a.replace('a', 'b')\nc = C()\ns = StepLR(o, c.n)",
    ],
)
def test_what_leaves_a_schedule_alone_is_not_refused(text):
    assert both_lines(convert("torch", text, 0.1))[0] == CT.StepLR(0.1, 3)


def test_a_program_says_how_often_its_schedule_is_stepped():
    made = "o = SGD(p, 0.1)\ns = OneCycleLR(o, 0.1, 9)\n"
    epoch = made + "for e in r:\n  for b in x: o.step()\n  s.step()"
    text = convert("torch", epoch)
    assert "It is stepped once in several updates (an epoch): give steps_per_epoch." in text
    assert both_lines(convert("torch", epoch, steps_per_epoch=5))[0] == js.Epochwise(
        CT.OneCycleLR(0.1, 9), 5
    )
    batch = "s = StepLR(SGD(p, 0.1), 3)\nfor b in x:\n  s.optimizer.step()\n  s.step()"
    assert "steps_per_epoch" not in convert("torch", batch)
    early = "o = SGD(p, 0.1)\ns = StepLR(o, 3)\nfor b in x:\n  s.step()\n  o.step()"
    assert "before the updates: the first has its step 1." in convert("torch", early)
    late = "s = StepLR(o, 3)\nfor e in range(9):\n  for b in x: o.step()\n  s.step(e)"
    assert "Its step is `e`." in convert("torch", late, 0.1)
    for several in ("  o.step()\n  o.step()", "  [o.step() for i in r]"):
        text = convert("torch", f"{made}for b in x:\n{several}\n  s.step()")
        assert "once in several updates" in text
    for once in ("list(map(f, x))", "list(map(lambda b: o.step(), x))", "each(f)"):
        text = f"def f(b): o.step()\n{made}for e in r:\n  {once}\n  s.step()"
        assert "once in several updates" in convert("torch", text)
    apart = f"{made}for b in x: o.step()\nfor b in x:\n  o.step()\n  s.step()"
    assert "The update in line 3 is not in the loop that steps it." in convert("torch", apart)
    other = (
        "s = StepLR(o, 3)\nd = {'scheduler': s}\nfor b in x:\n  o.step()\n  d['scheduler'].step()"
    )
    assert "steps_per_epoch" not in convert("torch", other, 0.1)
    hand = "s = linear_schedule(1, 0, 9)\nfor e in r: t = sgd(s(e // 2))"
    assert "A step is what it is called with: `s(e // 2)`." in convert("optax", hand)


OPTAX = "s = linear_schedule(1, 0, 9)\n"
ONCE = "o = SGD(p, 0.1)\ns = StepLR(o, 3)\n"


@pytest.mark.parametrize(
    ("library", "text"),
    [
        # Of what is not known, by its name.
        ("torch", "c = {'a': 3}\n|f = c.update|\nf(a=4)\nStepLR(o, c['a'])"),
        ("torch", ONCE + "t.s = s\nfor w in [t]: |w.s.gamma = 1|"),
        ("torch", ONCE + "class N:\n  def lr_scheduler_step(self, sched, m):\n    |sched.step()|"),
        ("torch", ONCE + "def f(t):\n  |t.lr_scheduler_configs[0].scheduler.step()|"),
        ("torch", ONCE + "class N:\n  def lr_scheduler_step(self, z, m):\n    |z.step()|"),
        ("torch", "class W:\n  def __init__(self):\n    self.q = StepLR(o, 3)\n"
         "  step = lambda self: |self.q.step()|"),
        ("torch", ONCE + "class W(LRScheduler):\n  def __init__(self, q, z):\n    "
         "|super().__init__(q)|\nW(o, s)"),
        ("hf", "s = linear(o, 1, 9)\nt = Trainer(m, optimizers=(o, s))\n|t.optimizer = p|"),
        ("hf", "s = linear(o, 1, 9)\nt = Trainer(m, optimizers=(o, s))\n"
         "|t.lr_scheduler.base_lrs[0] = 1|"),
        ("hf", "s = linear(o, 1, 9)\nclass C(TrainerCallback):\n  def on_step_end(self, a, "
         "lr_scheduler=None):\n    |lr_scheduler.step()|"),
        ("composer", "s = LinearScheduler(t_max='9ba')\n|t.fit(duration='1ep', reset_time=True)|"),
        # Another count of steps than of updates.
        ("torch", ONCE + "for b in x:\n  |if b % 4:|\n    o.step()\n  s.step()"),
        ("torch", ONCE + "for b in x:\n  o.step()\n  for i in r:\n    print(i)\n    |s.step()|"),
        ("torch", ONCE + "for b in x:\n  o.step()\n  list(|(s.step() for i in r)|)"),
        ("torch", ONCE + "def f():\n  o.step()\n  if bad: |return|\n  s.step()\nfor b in x: f()"),
        ("torch", ONCE + "for b in x:\n  |try:|\n    o.step()\n    s.step()\n  except E: g()"),
        ("torch", ONCE + "def f():\n  if c: |return|\n  o.step()\nfor b in x:\n  f()\n  s.step()"),
        ("torch", ONCE + "for e in r:\n for b in x:\n  o.step()\n  if c: |break|\n  s.step()"),
        ("torch", ONCE + "def f():\n for b in x:\n  o.step()\n  if c: |return|\n  s.step()\n"
         "for e in r: f()"),
        ("torch", ONCE + "def f():\n while 1:\n  o.step()\n  if c: |return|\n  s.step()\nf()\nf()"),
        ("torch", ONCE + "for e in r:\n try:\n  for b in x:\n"
         "   o.step()\n   if c: |raise E|\n   s.step()\n except E: f()"),
        ("torch", ONCE + "class A:\n  @property\n  def c(self): return f()\na = A()\nfor b in x:\n"
         "  if a.c: o.step()\n  |if a.c:| s.step()"),
        ("torch", ONCE + "def f():\n  s.step()\ng = f\nfor b in x:\n  f()\n  |g()|"),
        ("torch", ONCE + "def f(b):\n  s.step()\n|map(f, x)|"),
        ("torch", ONCE + "@|twice|\ndef f():\n  s.step()\nfor b in x: f()"),
        ("timm", "s = CosineLRScheduler(o, 9)\nfor b in x:\n  f()\n  |s.step_update(b)|"),
        # What is given back, in whatever way.
        ("torch", "@|double|\ndef f():\n  o = SGD(p, 0.1)\n  return o, StepLR(o, 3)\no, s = f()"),
        ("torch", ONCE + "class T:\n  @|property|\n  def o(self):\n    return o\nT().o.lr = 1"),
        ("torch", ONCE + "class T:\n  |def __call__(self):|\n    return o\nT()().lr = 1"),
        ("torch", ONCE + "def f(): return o\ng = f\n|g().lr = 1|"),
        ("torch", ONCE + "class A:\n  def f(self): return o\nclass B(A):\n  def g(self):\n    "
         "|super().f()|.lr = 1"),
        # What names the rate, but not the optimizer.
        ("torch", ONCE + "def f(self, optimizer):\n  |optimizer.param_groups[0]['lr'] = 1|"),
        ("torch", ONCE + "|self.optimizers().param_groups[0]['lr'] = 1|"),
        ("torch", ONCE + "|StepLR.get_lr| = f"),
        ("torch", ONCE + "|type(s).gamma = 3|"),
        ("torch", "m = [3]\ns = MultiStepLR(o, m)\nn = m\n|n += [4]|"),
        ("fastai", "learn.fit_one_cycle(5, 0.1)\n|learn.opt.set_hypers(lr=3)|"),
        ("keras", "s = CosineDecay(1, 9)\nm.compile(optimizer=SGD(s))\nfor n in [m]:\n  "
         "|n.optimizer.learning_rate = 3|"),
        ("optax", OPTAX + "|state.replace(tx=sgd(1.0))|"),
        ("optax", OPTAX + "o = nnx.Optimizer(m, sgd(s))\n|o.tx = sgd(3.0)|"),
        ("optax", OPTAX + "t = sgd(s)\n|for e in r:|\n  q = t.init(p)"),
    ],
)  # fmt: skip
def test_what_changes_the_rate_or_the_count_of_its_steps_in_a_program_is_refused(library, text):
    before, told, _ = text.split("|")
    with pytest.raises(ValueError, match="its optimizer and their lists") as error:
        convert(library, text.replace("|", ""), 0.1 if "SGD(p" not in text else None)
    line = f"in line {1 + before.count(chr(10))}: leave it out"
    assert told.partition(":")[0] in str(error.value) and line in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "p.add_argument('--n', default=2)\na = p.parse_args(['--n', '5'])\nStepLR(o, a.n)",
        "p.add_argument('--n', default=2)\nsys.argv = x\na = p.parse_args()\nStepLR(o, a.n)",
        "p.add_argument('--n', type=f, default='2')\na = p.parse_args()\nStepLR(o, a.n)",
        "class C: n = 2\nfor k in y: setattr(C, k, 3)\nStepLR(o, C.n)",
        "c = {'a': {'n': 3}}\nfor q in c.values(): q['n'] = 5\nStepLR(o, c['a']['n'])",
        "a = SimpleNamespace(n=2)\nf = partial(setattr, a, 'n')\nf(5)\nStepLR(o, a.n)",
        "class C:\n  n = 2\n  def __init__(self, **k): self.__dict__.update(k)\nStepLR(o, C().n)",
        "class C:\n  n = 2\n  def __init__(self, k): vars(self).update(n=k)\nStepLR(o, C(3).n)",
        "class C:\n  n: int = 2\n  def f(self): return StepLR(o, self.n)\nreplace(C(), n=3).f()",
        "for c in all: c.n = 3\nStepLR(o, c.n)",
    ],
)
def test_a_value_that_may_be_given_otherwise_is_refused(text):
    with pytest.raises(ValueError, match=r"in place of .*, which only the program"):
        convert("torch", text, 0.1)


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


def test_a_value_that_is_not_in_the_text_is_refused():
    with pytest.raises(ValueError, match=r"of the text that the schedule asks for, got 'n'"):
        convert("torch", "StepLR(o, 3)", 0.1, values={"n": 3})
    with pytest.raises(ValueError, match=r'len\(x\) \(line 1\), .* \(--value "args.epochs=90"\)'):
        convert("torch", "StepLR(o, len(x))", 0.1)


@pytest.mark.parametrize(
    "text",
    [
        "from torch.optim.lr_scheduler import ExponentialLR as StepLR\nStepLR(o, 3)",
        "min, max = max, min\nStepLR(o, min(3, 4))",
        "from m import largest as min\nStepLR(o, min(3, 4))",
        "import m as math\nStepLR(o, math.floor(3.5))",
        "def f(round): return StepLR(o, round(3.4))\nf(g)",
    ],
)
def test_a_known_name_that_is_given_to_something_else_is_refused(text):
    with pytest.raises(ValueError, match=r"in place of|got none in"):
        convert("torch", f"o = SGD(p, 0.1)\n{text}")
