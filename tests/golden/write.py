"""Writes the tables of this folder from the real packages.

    PYTHONPATH=tests:. python -m golden.write [library ...]

It needs the packages themselves, in the environment that `make parity` makes.
"""

from __future__ import annotations

import importlib
import json
import sys
import zlib

import numpy as np

from golden import HERE, LIBRARIES
from golden.draws import until_it_ends

STEPS = (17, 32)  # of the runs; a name with many kinds of arguments has each in one of them


def main(libraries: list[str]) -> None:
    for library in libraries or LIBRARIES:
        peer = importlib.import_module(f"golden.of_{library}")
        lines = []
        for name in peer.NAMES:
            random = np.random.default_rng(zlib.crc32(f"{library}.{name}".encode()))
            for steps, turn in zip(STEPS, (0, 1), strict=True):
                kinds = peer.draw(name, random, steps)
                for arguments in kinds if len(kinds) < 3 else kinds[turn::2]:
                    values = until_it_ends(peer.curve(name, arguments, steps))
                    values = [float(f"{x:.10g}") for x in values]
                    case = {"name": name, "arguments": arguments, "values": values}
                    lines.append(json.dumps(case, separators=(",", ":")))
        (HERE / f"{library}.json").write_text("\n".join(lines) + "\n")
        print(library, len(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
