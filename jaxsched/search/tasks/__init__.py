"""Tasks: what a sweep trains.

Read ``_protocol.py`` first: what a user writes, three methods and some more. ``_supervised.py`` is
the ready-made one (with its data in ``_samples.py``, ``_pool.py`` and ``_split.py``), and
``_averaged.py`` wraps any. ``_traced.py`` is where a task is looked at before it is trained: what
it returns (``_returned.py``), whether every step updates the parameters (``_every_step.py``), and
whether every hyperparameter acts (``_used.py``); the last two by ``_dependence.py``.
"""
