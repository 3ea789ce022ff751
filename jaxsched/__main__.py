"""``python -m jaxsched``: the command."""

import sys

from jaxsched.command._main import main

if __name__ == "__main__":
    sys.exit(main())
