"""The engine: a plan, one compiled program, and the loop that trains the runs.

Read ``_plan.py`` first, then ``_ledger.py``: what is trained, and what of it is done. ``_rungs.py``
has ``run_plan``, which lets ``_engine.py`` train it with the programs of ``_program.py``.
"""
