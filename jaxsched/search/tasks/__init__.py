"""Tasks: what a sweep trains.

Read ``_protocol.py`` first: what a user writes, three methods and some more. ``_supervised.py`` is
the ready-made one (with its data in ``_samples.py`` and ``_pool.py``), and ``_averaged.py`` wraps
any. ``_traced.py`` traces a task, or its folds, before any training; from then on the traced fold
answers for its task. ``_returned.py`` checks what the methods return, ``_updates.py`` (by
``_dependence.py``) that every step updates the parameters and every hyperparameter acts.
"""
