"""Trials: named schedules of hyperparameters, from recipes and settings.

Read ``_trials.py`` first: it defines a trial. ``_given.py`` makes trials from a sweep's argument
and gives them distinct names; ``_grids.py`` makes them from recipes (``_kinds.py``) and values
(``_draws.py``).
"""
