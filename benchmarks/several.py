"""A network that learns several properties of JARVIS-DFT at once, from which others are fine-tuned."""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.study import call, read_rows
from crysmm.crystals.crystal import Crystal
from crysmm.data.duplicates import find_duplicates
from crysmm.files import write_json_atomic

LEARNED = ("formation_energy_peratom", "optb88vdw_bandgap", "optb88vdw_total_energy", "ehull")
SEED = 123
N_VALIDATION = 2000


def train_on_several(
    data: Path, folder: Path, held_out: Callable[[], Iterable[str]], recipe: Sequence[str], jobs: int = 1
) -> Path:
    """Train a network on the properties in ``LEARNED`` at once, if that has not been done, and return its folder.

    Args:
        data: JSONL file with all of JARVIS-DFT.
        folder: Folder of the run; the ids of its crystals stand beside it.
        held_out: Returns the ids of crystals that it must not see, nor duplicates of them.
        recipe: Options of ``crysmm train``.
        jobs: Number of runs that share the cores.
    """
    ids = folder.with_name(f"{folder.name}_ids.json")
    if not ids.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(ids, rows_for_pretraining(data, held_out()))
    targets = ["--target_key", ",".join(LEARNED), "--ids_file", str(ids)]
    call(["train", "--root_dir", str(data), *recipe, *targets], folder, jobs)
    return folder


def rows_for_pretraining(data: Path, held_out: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids that may be trained on: with all properties, not held out, and no duplicate of what is."""
    rows, held_out = read_rows(data), set(held_out)
    crystals = [Crystal.from_arrays(row["lattice_mat"], row["frac_coords"], row["elements"]) for row in rows]
    for group in find_duplicates(
        [crystal.formula for crystal in crystals], lambda some: [crystals[row] for row in some]
    ):
        alike = {rows[row]["id"] for row in group}
        if not held_out.isdisjoint(alike):
            held_out |= alike
    ids = [row["id"] for row in rows if row["id"] not in held_out and all(key in row for key in LEARNED)]
    random.Random(SEED).shuffle(ids)
    return {"id_train": ids[N_VALIDATION:], "id_val": ids[:N_VALIDATION], "id_test": []}
