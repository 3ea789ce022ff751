"""Tasks: the models and data that a sweep trains.

Read ``_protocol.py`` first: the methods that a user writes, three required and some optional.
``_supervised.py`` is the ready-made task (with its data in ``_samples.py`` and ``_pool.py``), and
``_averaged.py`` wraps any task. ``_traced.py`` traces a task, or its folds, before any training;
from then on the traced fold answers for its task. ``_returned.py`` checks the results of the
methods. ``_updates.py`` checks (by ``_dependence.py``) that every step updates the parameters and
that every hyperparameter acts.
"""
