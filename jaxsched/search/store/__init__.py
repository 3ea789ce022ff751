"""The store: checkpoints of a sweep, and the fields that identify it.

Read ``_checkpoint.py`` first. It reads a ledger and makes one; the engine does not know it.
"""
