"""The one list of the public names of ``jaxsched``, in parts of what they load."""
