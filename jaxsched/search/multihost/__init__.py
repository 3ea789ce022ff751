"""Several processes: a mesh of devices, and what the processes agree on."""
