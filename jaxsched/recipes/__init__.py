"""Recipes: functions that compose a schedule from the field's usual arguments."""
