"""The store: measurements and states on disk, and the fields that identify them.

Read ``_store.py`` first. A ledger asks it for known runs, and gives it measurements.
"""
