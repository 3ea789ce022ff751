"""Where a plan is trained: the one door to devices, and several processes with a mesh.

Read ``_backend.py`` first: what devices of one process and a mesh have in common.
"""
