"""Recipes: functions that compose a schedule of what a person would say."""
