"""Trials: named schedules of hyperparameters, from recipes and settings.

Read ``_trials.py`` first: what a trial is, and what a sweep takes for trials. ``_grids.py`` makes
them of recipes (``_kinds.py``) and values (``_draws.py``), ``_names.py`` tells them apart.
"""
