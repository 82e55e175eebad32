r"""Tables of which a fraction is labeled: table 4 of the CrysGNN paper, and the seven properties of the CrysXPP paper.

    python -m benchmarks.partly_labeled run --table crysgnn --data jarvis_dft_3d_2021.jsonl.gz --work DIR \
        --percent 20 --arms cgcnn "cgcnn from decoys" --seeds 1,2,3
    python -m benchmarks.partly_labeled report --work DIR

The first rows of a random order (seed 123) are labeled, 10% of all choose the epoch, and the rest is predicted once;
the order is the same for all arms and seeds. Each JARVIS property has the order of the rows that have it, as in
JARVIS-Leaderboard; "cgcnn from several properties" starts from a network of other properties that saw none of the rows
beyond the first 20%, and so do "five networks", whose predictions are averaged. The seven properties share the order
of all rows, so that "cgcnn on all properties at once" is trained on no label that another arm is tested on. Moduli are
learned as log10 GPa there, as in the paper.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.curves import Curves, plot_curves
from benchmarks.several import train_on_several
from benchmarks.study import (
    ARMS,
    OF_SEVERAL,
    SEVERAL,
    TOGETHER,
    WITHOUT_TEXT,
    Results,
    Study,
    call,
    command_line,
    folder_name,
    is_known,
    read_results,
    read_rows,
    replace_rows,
    table,
)
from crysmm.files import write_json_atomic

SEED = 123
JARVIS = {"mbj_bandgap": "eV", "bulk_modulus_kv": "GPa", "shear_modulus_gv": "GPa", "slme": "%"}
MODULI = ("K_VRH", "G_VRH")
SEVEN = (
    "formation_energy_per_atom", "band_gap", "efermi", "total_magnetization", "log10 K_VRH", "log10 G_VRH",
    "poisson_ratio",
)  # fmt: skip
OPTIMIZER = ["--batch_size", "64", "--learning_rate", "0.004", "--weight_decay", "0.1"]
RECIPE = ["--epochs", "60", *OPTIMIZER]
ON_SEVERAL = ["--epochs", "20", *OPTIMIZER]
SMALLEST_PERCENT = 20  # of labeled rows; the others are kept from the network of several properties


@dataclass
class StudyOfSeveral(Study):
    """A study with arms that learn several properties in one network.

    Args:
        together: Options of ``crysmm train`` for the arm on the properties of all tasks, which have the names of its
            targets.
        held_out: Ids of the crystals that a network to start from must not see.
    """

    together: list[str] = field(default_factory=list)
    held_out: set[str] = field(default_factory=set)
    _one_at_a_time: Lock = field(default_factory=Lock)

    def test_error(self, seed: int, task: str, arm: str) -> float:
        """Return the test MAE of a run, or of one property of the run on all."""
        if arm != TOGETHER:
            return super().test_error(seed, task, arm)
        run = self.work / "runs" / folder_name(arm) / f"seed_{seed}"
        with self._one_at_a_time:  # all tasks read the same run
            call(["train", *self.together, "--random_seed", str(seed), *self.recipe], run, self.jobs)
        metrics = json.loads((run / "metrics.json").read_text())
        name, _ = task.rsplit(", ", 1)
        return float(metrics["test"]["per_target"][name]["mae"])

    def options(self, task: str, arm: str) -> list[str]:
        """Return the options that the arm adds to the recipe; the network that it starts from is trained first."""
        if ARMS[arm].encoder == SEVERAL:
            assert self.pretraining_data is not None
            with self._one_at_a_time:
                folder = self.encoder_folder(SEVERAL)
                train_on_several(self.pretraining_data, folder, lambda: self.held_out, ON_SEVERAL, self.jobs)
        return super().options(task, arm)


def main() -> None:
    """Run what has no result yet, or print the table."""
    parser, run = command_line(__doc__, "partly_labeled.csv", [*WITHOUT_TEXT, *OF_SEVERAL])
    run.add_argument("--table", choices=("crysgnn", "crysxpp"), required=True, help="the paper whose table it is")
    run.add_argument("--data", type=Path, required=True, help="JSONL file of structures with their properties")
    run.add_argument("--pretraining_data", type=Path, help="JSONL file that encoders are made from (--data)")
    run.add_argument("--properties", nargs="+", metavar="PROPERTY", help="by default all of the table")
    run.add_argument("--percent", type=int, default=20, help="percentage of labeled rows (20)")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "partly_labeled.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        if panels := curves_by_property(read_results(results)):
            plot_curves(results.with_suffix(".png"), panels, "labeled crystals, %")
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    make = crysgnn_tasks if arguments.table == "crysgnn" else crysxpp_tasks
    tasks = make(arguments.data, arguments.work, arguments.percent, arguments.properties)
    pretraining_data = arguments.pretraining_data or arguments.data
    study = StudyOfSeveral(arguments.work, results, pretraining_data, jobs=arguments.jobs, recipe=RECIPE, **tasks)
    study.run(arguments.arms, arguments.seeds)


def crysgnn_tasks(data: Path, work: Path, percent: int, names: Sequence[str] | None) -> dict[str, Any]:
    """Return options of ``crysmm train`` by task, one per JARVIS property, and the rows held out from pre-training."""
    rows = read_rows(data)
    tasks = {}
    held_out: set[str] = set()
    for name in JARVIS:
        smallest = make_split([row for row in rows if is_known(row, name)], SMALLEST_PERCENT)
        held_out.update(smallest["id_val"], smallest["id_test"])
    for name in names or JARVIS:
        ids = make_split([row for row in rows if is_known(row, name)], percent)
        path = work / f"ids_{name}_{percent}.json"
        write_json_atomic(path, ids)
        tasks[f"{name}, {percent}%"] = ["--root_dir", str(data), "--target_key", name, "--ids_file", str(path)]
    return {"tasks": tasks, "held_out": held_out}


def crysxpp_tasks(data: Path, work: Path, percent: int, names: Sequence[str] | None) -> dict[str, Any]:
    """Return options of ``crysmm train`` by task, one per property, and those for all at once.

    The table is copied into the folder of the runs with the logarithms of the moduli.
    """
    rows = read_rows(data)
    for row in rows:
        row.update({f"log10 {name}": math.log10(row[name]) for name in MODULI if is_known(row, name) and row[name] > 0})
    table_file = work / "seven.jsonl"
    replace_rows(table_file, rows)
    split = make_split(rows, percent)
    names = names or SEVEN
    tasks = {}
    for name in names:
        known = {row["id"] for row in rows if is_known(row, name)}
        path = work / f"ids_{folder_name(name)}_{percent}.json"
        write_json_atomic(path, {key: [one for one in ids if one in known] for key, ids in split.items()})
        tasks[f"{name}, {percent}%"] = ["--root_dir", str(table_file), "--target_key", name, "--ids_file", str(path)]
    everything = work / f"ids_{percent}.json"
    write_json_atomic(everything, split)
    together = ["--root_dir", str(table_file), "--target_key", ",".join(names), "--ids_file", str(everything)]
    return {"tasks": tasks, "together": together}


def curves_by_property(results: Results) -> dict[str, Curves]:
    """Return the learning curves of the JARVIS properties, by the label of their axis, with arms at several sizes."""
    panels: dict[str, Curves] = {}
    for name, unit in JARVIS.items():
        curves = {
            arm: {
                int(task.removeprefix(f"{name}, ").removesuffix("%")): by_seed
                for task, by_seed in by_task.items()
                if task.startswith(f"{name}, ")
            }
            for arm, by_task in results.items()
        }
        if several := {arm: by_amount for arm, by_amount in curves.items() if len(by_amount) > 1}:
            panels[f"{name}: test MAE, {unit}"] = several
    return panels


def make_split(rows: Sequence[dict[str, Any]], percent: int) -> dict[str, list[str]]:
    """Split rows in a random order: so many percent to train on, 10% for validation, and the rest as the test split."""
    ids = [row["id"] for row in rows]
    random.Random(SEED).shuffle(ids)
    n_train, n_val = int(percent / 100 * len(ids)), int(0.1 * len(ids))
    return {
        "id_train": ids[:n_train],
        "id_val": ids[n_train : n_train + n_val],
        "id_test": ids[n_train + n_val :],
    }


if __name__ == "__main__":
    main()
