"""The LR range test and the suggestions that it reads off the curve."""
