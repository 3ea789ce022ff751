"""The store: checkpoints of a sweep, and what identifies one."""
