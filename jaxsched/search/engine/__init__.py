"""The engine: a plan, one compiled program, and the loop that trains the runs."""
