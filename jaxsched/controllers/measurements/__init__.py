"""Measurements for controllers: an averaged copy of the weights, its gap, the sharpness."""
