"""What controllers measure: an averaged copy of the weights, its gap, the sharpness."""
