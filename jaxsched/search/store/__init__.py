"""The store: checkpoints of a sweep, and what identifies one.

Read ``_checkpoint.py`` first. It reads a ledger and makes one; the engine does not know it.
"""
