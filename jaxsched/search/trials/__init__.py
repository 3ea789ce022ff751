"""Trials: named schedules of hyperparameters, from recipes and settings."""
