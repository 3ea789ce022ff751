"""The LR range test and what it reads off the curve."""
