"""Tasks: what a sweep trains.

Read ``_protocol.py`` first: what a user writes, three methods and some more. ``_supervised.py`` is
the ready-made one (with its data in ``_samples.py`` and ``_pool.py``), and ``_averaged.py`` wraps
any. ``_traced.py`` is where a task, or its folds, are looked at before they are trained: what the
methods return (``_returned.py``), whether every step updates the parameters and every
hyperparameter acts (``_updates.py``, by ``_dependence.py``).
"""
