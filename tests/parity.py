"""Compares every drop-in with the real package, live: ``make parity``.

    PYTHONPATH=tests:. python tests/parity.py [--draws 20] [--steps 1000] [library ...]

It prints a line for each name: how many draws, and the largest difference over the largest value,
on the host and in a program in which every number is traced; and ends with 1 where one is beyond
its tolerance.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

import golden
import numpy as np
from golden.draws import until_it_ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("libraries", nargs="*", default=golden.LIBRARIES)
    parser.add_argument("--draws", type=int, default=5, help="runs of each name, of other lengths")
    parser.add_argument("--steps", type=int, default=300, help="of the longest run")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| library | name | draws | host | program | known exception |")
    print("|---|---|---|---|---|---|")
    golden.LONGEST = 2 * given.steps + 1  # the draws of a kind are one program
    beyond = 0
    for library in given.libraries:
        peer = importlib.import_module(f"golden.of_{library}")
        for name in peer.NAMES:
            random = np.random.default_rng(given.seed)
            lengths = random.integers(12, given.steps, given.draws).tolist()
            cases = [case for steps in lengths for case in draws(peer, name, random, steps)]
            host = max(golden.on_the_host(library, case) for case in cases)
            program = max(golden.in_a_program(library, case, compiled=True) for case in cases)
            on_host, in_program, *reason = golden.exception(library, name)
            wrong = host > on_host or program > in_program
            beyond += wrong
            told = f"{reason[0]}{' **BEYOND IT**' if wrong else ''}"
            row = (library, name, len(cases), f"{host:.0e}", f"{program:.0e}", told)
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    return int(beyond > 0)


def draws(peer: Any, name: str, random: np.random.Generator, steps: int) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "arguments": arguments,
            "values": until_it_ends(peer.curve(name, arguments, steps)),
        }
        for arguments in peer.draw(name, random, steps)
    ]


if __name__ == "__main__":
    raise SystemExit(main())
