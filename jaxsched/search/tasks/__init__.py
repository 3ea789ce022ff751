"""Tasks: what a sweep trains, and what it may be made of."""
