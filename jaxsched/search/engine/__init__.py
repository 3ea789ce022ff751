"""The engine: a plan, one compiled program, and the loop that trains the runs.

Read ``_plan.py`` first, then ``_ledger.py``, the progress of a plan. The entry is ``run_plan`` in
``_rungs.py``: it lets ``_engine.py`` train a plan with the programs of ``_program.py``.
"""
