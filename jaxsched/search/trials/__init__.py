"""Trials: named schedules of hyperparameters, from recipes and settings.

Read ``_trials.py`` first: what a trial is. ``_given.py`` makes trials of what a sweep is given, and
tells them apart; ``_grids.py`` makes them of recipes (``_kinds.py``) and values (``_draws.py``).
"""
