"""The store: measurements and states on disk, and the fields that identify them.

Read ``_store.py`` first. A ledger asks it for what is known, and tells it what is measured.
"""
