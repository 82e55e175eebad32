r"""Reproduce a table of CrysXPP, CrysGNN or CrysMMNet: pre-train, train, and print each error beside the paper's.

    python examples/reproduce/run.py crysxpp --data mp.jsonl.gz --output_dir runs/crysxpp --property formation_energy
    python examples/reproduce/run.py table2-jarvis --data jarvis.jsonl.gz --pretraining_data untagged.jsonl.gz \
        --output_dir runs/crysgnn --property formation_energy --student cgcnn
    python examples/reproduce/run.py crysmmnet-jarvis --data jarvis.jsonl.gz --descriptions jarvis_texts.jsonl \
        --output_dir runs/crysmmnet --property formation_energy --student alignn

Tables: crysxpp (20% labeled, seven properties of MP), table2-mp, table2-jarvis (vanilla and distilled students),
table4 (20, 40 and 60% labeled), figure3 (teachers pre-trained with different losses), crysmmnet-jarvis (six properties,
without and with text), crysmmnet-mp (four properties with text). The same command again continues where it was stopped,
and only prints runs that are finished. The tables in one output folder share encoders.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.cli.main import guarded
from crysmm.config import PretrainingConfig, TrainingConfig, load_config
from crysmm.errors import InputError
from crysmm.io.inputs import open_source
from crysmm.text.descriptions import descriptions_of_input
from crysmm.training.pretrain import pretrain
from crysmm.training.train import train

HERE = Path(__file__).parent
PUBLISHED: dict[str, Any] = json.loads((HERE / "published.json").read_text(encoding="utf-8"))
RECIPES = {"cgcnn": "student.json", "crysxpp": "student.json", "gatgnn": "gatgnn.json", "alignn": "alignn.json"}
CRYSMMNET = "crysmmnet.json"
CRYSXPP_RECIPES = {"cgcnn": "cgcnn.json", "crysxpp": "crysxpp.json"}
DELTA = 0.5
TEACHERS = {  # losses that CrysGNN is pre-trained with to be the teacher in an arm
    "distilled": ("feature", "connectivity", "space_group", "crystal_system"),
    "node": ("feature", "connectivity"),
    "graph": ("space_group", "crystal_system"),
    "node+space_group": ("feature", "connectivity", "space_group"),
    "node+contrast": ("feature", "connectivity", "crystal_system"),
}


@dataclass(frozen=True)
class Cell:
    """One run of a table.

    Args:
        table: Key of ``published.json``.
        target: Name of the property there.
        target_key: Key of the property in the rows of the data.
        unit: Unit of the errors.
        student: Backbone.
        split: Training, validation and test split in percent, or numbers of crystals.
        arm: ``vanilla``, ``pretrained`` (CrysXPP from CrysAE), ``text``, or a key of ``TEACHERS``.
        published: Test MAE in the paper, if known.
        published_vanilla: Test MAE of the same student without pre-training in the paper, if known.
    """

    table: str
    target: str
    target_key: str
    unit: str
    student: str
    split: str
    arm: str
    published: float | None
    published_vanilla: float | None

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.target}_{self.student}_{self.split}_{self.arm}"

    @property
    def predicts_log10(self) -> bool:
        """True if the errors are those of the logarithm."""
        return self.unit.startswith("log10 ")

    @property
    def published_text(self) -> str:
        """Published error as text."""
        return "-" if self.published is None else f"{self.published:g}"

    def split_settings(self, limit: int | None) -> dict[str, Any]:
        """Return the numbers of crystals in each split, or ratios if these are published or rows are limited."""
        sizes = [int(size) for size in self.split.split("-")]
        if sum(sizes) != 100 and limit is None:
            return dict(zip(("n_train", "n_val", "n_test"), sizes, strict=True))
        return {"val_ratio": sizes[1] / sum(sizes), "test_ratio": sizes[2] / sum(sizes)}


def main() -> int:
    """Run the cells that the command line selects, and print their errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=PUBLISHED)
    parser.add_argument("--data", type=Path, required=True, help="structures with the properties: a .jsonl[.gz], ...")
    parser.add_argument("--pretraining_data", type=Path, help="structures to pre-train teachers on (CrysGNN's tables)")
    parser.add_argument("--descriptions", type=Path, help="descriptions by crysmm describe; by default those in --data")
    parser.add_argument("--encoder", help="text encoder instead of MatSciBERT: a folder, or minilm")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets a folder for each run")
    parser.add_argument("--property", help="run only this property")
    parser.add_argument("--student", choices=RECIPES, help="run only this backbone")
    parser.add_argument("--target_key", help="key of the property in the rows, if it differs from the published name")
    parser.add_argument("--limit", type=int, help="read only this many rows, for a trial")
    parser.add_argument("--epochs", type=int, help="number of epochs instead of the published one, for a trial")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    cells = list(chosen_cells(arguments))
    check_inputs(cells, arguments)
    cells = those_in_data(cells, arguments)
    errors: dict[Cell, float] = {}
    for cell in cells:
        errors[cell] = test_error(cell, arguments)
        print(f"\n{cell.name}: test MAE {errors[cell]:.4g} {cell.unit}, published {cell.published_text}\n", flush=True)
    print_table(errors)
    return 0


def chosen_cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells that the command line selects.

    Raises:
        InputError: The table does not have the property or the student.
    """
    properties = PUBLISHED[arguments.table]["properties"]
    if arguments.property is not None and arguments.property not in properties:
        raise InputError(f"--property: {arguments.table} has {', '.join(properties)}, got {arguments.property}")
    if arguments.target_key is not None and arguments.property is None:
        raise InputError("--target_key: names one property in the data; name it with --property")
    students = {student for about in properties.values() for student in about["figures"]}
    if arguments.student is not None and arguments.student not in students:
        raise InputError(f"--student: {arguments.table} has {', '.join(sorted(students))}, got {arguments.student}")
    for name, about in properties.items():
        for student, splits in about["figures"].items():
            if arguments.property not in (None, name) or arguments.student not in (None, student):
                continue
            key = arguments.target_key or about["target_key"]
            for split, figures in splits.items():
                for arm, figure in figures.items():
                    vanilla = figures.get("vanilla")
                    yield Cell(arguments.table, name, key, about["unit"], student, split, arm, figure, vanilla)


def check_inputs(cells: list[Cell], arguments: argparse.Namespace) -> None:
    """Check before the first run that all files are there.

    Raises:
        InputError: Cells need structures for teachers or descriptions that are not given, or a file does not exist.
    """
    if arguments.pretraining_data is None and any(cell.arm in TEACHERS for cell in cells):
        raise InputError("--pretraining_data: missing; teachers are pre-trained on it (see data_prep.untagged)")
    for name in ("data", "pretraining_data", "descriptions"):
        path = vars(arguments)[name]
        if path is not None and not path.exists():
            raise InputError(f"--{name}: {path} does not exist")
    needs_texts = arguments.descriptions is None and any(cell.arm == "text" for cell in cells)
    if needs_texts and not descriptions_of_input(open_source(arguments.data, needs_targets=False, limit=100)):
        raise InputError(
            "--descriptions: missing, and the first rows of --data have none; crysmm describe writes them for the "
            "structures in --data"
        )


def those_in_data(cells: list[Cell], arguments: argparse.Namespace) -> list[Cell]:
    """Return the cells whose property is in the data, and print the reason for the others.

    Raises:
        InputError: The data have none of the properties.
    """
    missing = {}
    for key in dict.fromkeys(cell.target_key for cell in cells):
        try:
            open_source(arguments.data, target_key=key, limit=arguments.limit)
        except InputError as error:
            missing[key] = error
            print(f"left out: {error}", flush=True)
    found = [cell for cell in cells if cell.target_key not in missing]
    if not found:
        raise list(missing.values())[-1]
    return found


def test_error(cell: Cell, arguments: argparse.Namespace) -> float:
    """Train unless the run is finished, and return the test MAE in the unit of the cell.

    Raises:
        InputError: The data cannot be used.
    """
    head: dict[str, Any] = {"name": "vanilla"}
    if cell.arm in TEACHERS:
        # A teacher of an arm is CrysGNN pre-trained with the losses of the arm; the weights of the others are 0.
        unused = [loss for loss in TEACHERS["distilled"] if loss not in TEACHERS[cell.arm]]
        method = {"name": "crysgnn", **{f"{loss}_weight": 0.0 for loss in unused}}
        name = "crysgnn" if cell.arm == "distilled" else f"crysgnn_{cell.arm}"
        teacher = pretrained_encoder(name, {"method": method}, arguments.pretraining_data, arguments)
        head = {"name": "distilled", "teacher": str(teacher), "delta": DELTA}
    elif cell.arm == "text":
        head = {"name": "multimodal", "descriptions": arguments.descriptions}
        if arguments.encoder is not None:
            head["encoder"] = arguments.encoder
    settings = {
        **common_settings(arguments, arguments.data, arguments.output_dir / cell.table / cell.name),
        **cell.split_settings(arguments.limit),
        "model": {"name": cell.student},
        "target_key": cell.target_key,
        "target_transform": "log10" if cell.predicts_log10 else "none",
        "head": head,
    }
    if cell.table.startswith("crysmmnet"):
        recipe = CRYSMMNET
        if cell.student != "alignn":  # the recipe has ALIGNN's graphs
            settings |= {"neighbor_strategy": "cgcnn", "as_jarvis": False}
    else:
        recipe = (CRYSXPP_RECIPES if cell.table == "crysxpp" else RECIPES)[cell.student]
        settings |= {"criterion": "mse", "standardize_target": True}
    if cell.arm == "pretrained":
        settings["init_from"] = pretrained_encoder("crysae", {}, arguments.data, arguments)
    config, _ = load_config(TrainingConfig, HERE / recipe, settings)
    test = train(config).metrics["test"]
    return float(test["log10"]["mae"] if cell.predicts_log10 else test["mae"])


def pretrained_encoder(name: str, settings: dict[str, Any], data: Path, arguments: argparse.Namespace) -> Path:
    """Pre-train an encoder unless that is finished, and return its folder.

    Args:
        name: Name of the folder; its part before the first ``_`` is that of the recipe.
        settings: Settings that differ from the recipe.
        data: Structures to pre-train on.
        arguments: Command line.
    """
    folder: Path = arguments.output_dir / "encoders" / name
    settings = {**common_settings(arguments, data, folder), **settings}
    config, _ = load_config(PretrainingConfig, HERE / f"{name.split('_')[0]}.json", settings)
    return pretrain(config).folder


def common_settings(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Any]:
    """Return the settings that the command line gives to every run."""
    settings = {"root_dir": data, "output_dir": folder, "resume": True, "device": arguments.device}
    trial = {"limit": arguments.limit, "epochs": arguments.epochs}
    return settings | {name: value for name, value in trial.items() if value is not None}


def print_table(errors: dict[Cell, float]) -> None:
    """Print the errors beside the published ones, and by how many percent each is below that of the vanilla student."""
    vanilla = {(cell.target, cell.student, cell.split): errors[cell] for cell in errors if cell.arm == "vanilla"}
    rows = [["property", "unit", "student", "split", "arm", "test MAE", "published", "gain", "published gain"]]
    for cell, error in errors.items():
        baseline = vanilla.get((cell.target, cell.student, cell.split))
        gains = ["", ""]
        for place, (value, of_vanilla) in enumerate(((error, baseline), (cell.published, cell.published_vanilla))):
            if cell.arm != "vanilla" and value is not None and of_vanilla is not None:
                gains[place] = f"{100 * (1 - value / of_vanilla):.1f}%"
        numbers = [f"{error:.4g}", cell.published_text]
        rows.append([cell.target, cell.unit or "-", cell.student, cell.split, cell.arm, *numbers, *gains])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nPublished: {PUBLISHED[next(iter(errors)).table]['source']}")
    print("Here: one run each, at the epoch that was best on the validation split; the test split is predicted once.")


if __name__ == "__main__":
    sys.exit(guarded(main))
