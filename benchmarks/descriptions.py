r"""Compare the texts and the time of Robocrystallographer alone and in ``crysmm describe``.

    python -m benchmarks.descriptions --data crystals.jsonl.gz --limit 50

Prints one JSON line: the crystals, how many texts are equal to the letter, how many but for the numpy numbers that
the program prints for layered crystals ("np.int64(1)"), the ids of those that are not, and seconds a crystal.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crysmm.crystals.crystal import Crystal
from crysmm.io.inputs import open_source
from crysmm.io.source import SkippedRow
from crysmm.text.describers import NUMPY_NUMBER, Robocrystallographer


def read_crystals(path: Path, limit: int) -> dict[str, Crystal]:
    """Return crystals by id, spread evenly over the file."""
    rows = [row for row in open_source(path, needs_targets=False).rows() if not isinstance(row, SkippedRow)]
    return {row.id: row.read().crystal for row in rows[:: max(1, len(rows) // limit)][:limit]}


def stock_describer() -> Callable[[Crystal], str]:
    """Describe with Robocrystallographer's own settings."""
    from pymatgen.core import Structure
    from robocrys import StructureCondenser, StructureDescriber

    condenser, describer = StructureCondenser(), StructureDescriber()

    def describe(crystal: Crystal) -> str:
        structure = Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
        return " ".join(describer.describe(condenser.condense_structure(structure)).split())

    return describe


def our_describer() -> Callable[[Crystal], str]:
    """Return the describer behind ``crysmm describe``."""
    describer = Robocrystallographer()
    return lambda crystal: " ".join(describer.describe(crystal).split())


def timed(describe: Callable[[Crystal], str], crystals: dict[str, Crystal]) -> tuple[dict[str, str], float]:
    """Return texts by id, and the seconds per crystal."""
    started = time.perf_counter()
    texts = {name: describe(crystal) for name, crystal in crystals.items()}
    return texts, (time.perf_counter() - started) / len(crystals)


def main() -> None:
    """Read the command line, describe, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="structures, as crysmm describe takes them")
    parser.add_argument("--limit", type=int, default=50, help="crystals to describe (50)")
    arguments = parser.parse_args()
    crystals = read_crystals(arguments.data, arguments.limit)
    stock, stock_seconds = timed(stock_describer(), crystals)  # first: ours changes what the program reads once
    ours, our_seconds = timed(our_describer(), crystals)

    clean = {name: NUMPY_NUMBER.sub(r"\1", text) for name, text in stock.items()}
    result: dict[str, Any] = {
        "crystals": len(crystals),
        "equal": sum(ours[name] == text for name, text in stock.items()),
        "equal_but_for_numpy": sum(ours[name] == text for name, text in clean.items()),
        "different": [name for name, text in clean.items() if ours[name] != text],
        "stock_seconds": round(stock_seconds, 2),
        "our_seconds": round(our_seconds, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
