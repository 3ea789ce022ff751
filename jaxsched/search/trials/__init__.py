"""Trials: named schedules of hyperparameters, from recipes and settings.

Read ``_trials.py`` first: what a trial is. ``_given.py`` makes trials of what a sweep is given,
``_grids.py`` of recipes (``_kinds.py``) and values (``_draws.py``); ``_names.py`` tells them apart.
"""
