"""The places of training: the one door to devices, and several processes with a mesh.

Read ``_backend.py`` first: it has the common part of a process's devices and a mesh.
"""
