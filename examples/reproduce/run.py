r"""A table of CrysXPP, CrysGNN or CrysMMNet: pre-train, train, and print each error beside the paper's.

    python examples/reproduce/run.py crysxpp --data mp.jsonl.gz --output_dir runs/crysxpp --property formation_energy
    python examples/reproduce/run.py table2-jarvis --data jarvis.jsonl.gz --pretraining_data untagged.jsonl.gz \
        --output_dir runs/crysgnn --property formation_energy --student cgcnn
    python examples/reproduce/run.py crysmmnet-jarvis --data jarvis.jsonl.gz --descriptions jarvis_texts.jsonl \
        --output_dir runs/crysmmnet --property formation_energy --student alignn

Tables: crysxpp (20% labelled, seven properties of MP), table2-mp, table2-jarvis (students vanilla and distilled),
table4 (20, 40 and 60% labelled), figure3 (which losses a teacher is trained with), crysmmnet-jarvis (six properties,
without text and with it), crysmmnet-mp (four properties with text). The same command again goes on
where it was stopped, and only prints what is finished. Encoders are shared by the tables of one output folder.
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
from crysmm.training.pretrain import pretrain
from crysmm.training.train import train

HERE = Path(__file__).parent
PUBLISHED: dict[str, Any] = json.loads((HERE / "published.json").read_text(encoding="utf-8"))
RECIPES = {"cgcnn": "student.json", "crysxpp": "student.json", "gatgnn": "gatgnn.json", "alignn": "alignn.json"}
CRYSMMNET = "crysmmnet.json"
CRYSXPP_RECIPES = {"cgcnn": "cgcnn.json", "crysxpp": "crysxpp.json"}
DELTA = 0.5
TEACHERS = {  # by the arm they teach: the losses of CrysGNN they learn from
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
        table: a key of ``published.json``.
        target: the property's name there.
        target_key: its key in the rows of the data.
        unit: of the figures.
        student: the backbone.
        split: shares of training, validation and test in percent, or counts.
        arm: ``vanilla``, ``pretrained`` (CrysXPP from CrysAE), ``text``, or a key of ``TEACHERS``.
        published: the paper's test MAE, where it is known.
        published_vanilla: that of the same student without pre-training, where there is one.
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
        """Of the run folder."""
        return f"{self.target}_{self.student}_{self.split}_{self.arm}"

    @property
    def is_crysmmnet(self) -> bool:
        """Whether the table is one of CrysMMNet's, with or without text."""
        return self.table.startswith("crysmmnet")

    @property
    def learns_log10(self) -> bool:
        """Whether the figures are errors of the logarithm."""
        return self.unit.startswith("log10 ")

    def split_settings(self, limit: int | None) -> dict[str, Any]:
        """The counts, or the shares where there are fewer rows than the paper's."""
        sizes = [int(size) for size in self.split.split("-")]
        if sum(sizes) != 100 and limit is None:
            return dict(zip(("n_train", "n_val", "n_test"), sizes, strict=True))
        return {"val_ratio": sizes[1] / sum(sizes), "test_ratio": sizes[2] / sum(sizes)}


def main() -> int:
    """Read the command line; run what is missing, print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=PUBLISHED)
    parser.add_argument("--data", type=Path, required=True, help="structures with the properties: a .jsonl[.gz], ...")
    parser.add_argument("--pretraining_data", type=Path, help="structures the teachers learn from (CrysGNN's tables)")
    parser.add_argument("--descriptions", type=Path, help="of the structures: by crysmm describe, or the authors' CSV")
    parser.add_argument("--encoder", help="in place of MatSciBERT: a folder, or minilm, to try things out")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets a folder for each run")
    parser.add_argument("--property", help="this one alone")
    parser.add_argument("--student", choices=RECIPES, help="this one alone")
    parser.add_argument("--target_key", help="the property's key in the rows, where it has another name there")
    parser.add_argument("--limit", type=int, help="read only the first so many rows, to try things out")
    parser.add_argument("--epochs", type=int, help="in place of the published number, to try things out")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    cells = list(chosen_cells(arguments))
    check_inputs(cells, arguments)
    cells = those_in_data(cells, arguments)
    errors: dict[Cell, float] = {}
    for cell in cells:
        errors[cell] = test_error(cell, arguments)
        print(f"\n{cell.name}: test MAE {errors[cell]:.4g} {cell.unit}, published {figure(cell)}\n", flush=True)
    print_table(errors)
    return 0


def chosen_cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """What the command line asks for.

    Raises:
        InputError: the table has no such property or student.
    """
    properties = PUBLISHED[arguments.table]["properties"]
    if arguments.property is not None and arguments.property not in properties:
        raise InputError(f"--property: {arguments.table} has {', '.join(properties)}, got {arguments.property}")
    if arguments.target_key is not None and arguments.property is None:
        raise InputError("--target_key: names one property in the data; say which, with --property")
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
    """Say which files are missing before the first run, not after it.

    Raises:
        InputError: there are teachers, and nothing they could learn from; or texts are to be read, and there are none;
            or a file is not there.
    """
    if arguments.pretraining_data is None and any(cell.arm in TEACHERS for cell in cells):
        raise InputError("--pretraining_data: missing; teachers learn from it (see data_prep.untagged)")
    if arguments.descriptions is None and any(cell.arm == "text" for cell in cells):
        raise InputError("--descriptions: missing; crysmm describe makes them of the structures in --data")
    for name in ("data", "pretraining_data", "descriptions"):
        path = vars(arguments)[name]
        if path is not None and not path.exists():
            raise InputError(f"--{name}: {path} does not exist")


def those_in_data(cells: list[Cell], arguments: argparse.Namespace) -> list[Cell]:
    """The cells whose property the data have; the others are named.

    Raises:
        InputError: there are none.
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
    """Train, unless that is done, and return the test MAE in the unit of the figures.

    Raises:
        InputError: the data cannot be used.
    """
    settings = {
        **common_settings(arguments, arguments.data, arguments.output_dir / cell.table / cell.name),
        **cell.split_settings(arguments.limit),
        "model": {"name": cell.student},
        "target_key": cell.target_key,
        "target_transform": "log10" if cell.learns_log10 else "none",
        "head": head(cell, arguments),
        **(crysmmnet_settings(cell) if cell.is_crysmmnet else {"criterion": "mse", "standardize_target": True}),
    }
    if cell.arm == "pretrained":
        settings["init_from"] = autoencoder(arguments)
    config, _ = load_config(TrainingConfig, HERE / recipe(cell), settings)
    test = train(config).metrics["test"]
    return float(test["log10"]["mae"] if cell.learns_log10 else test["mae"])


def recipe(cell: Cell) -> str:
    """The file of the settings."""
    if cell.is_crysmmnet:
        return CRYSMMNET
    return (CRYSXPP_RECIPES if cell.table == "crysxpp" else RECIPES)[cell.student]


def crysmmnet_settings(cell: Cell) -> dict[str, Any]:
    """The graphs of a backbone that is not ALIGNN, whose graphs the recipe has."""
    return {} if cell.student == "alignn" else {"neighbor_strategy": "cgcnn", "as_jarvis": False}


def head(cell: Cell, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is trained on top of the backbone."""
    if cell.arm in TEACHERS:
        return {"name": "distilled", "teacher": str(teacher(cell.arm, arguments)), "delta": DELTA}
    if cell.arm == "text":
        encoder = {} if arguments.encoder is None else {"encoder": arguments.encoder}
        return {"name": "multimodal", "descriptions": arguments.descriptions, **encoder}
    return {"name": "vanilla"}


def autoencoder(arguments: argparse.Namespace) -> Path:
    """CrysAE, pre-trained on the structures of the data."""
    return encoder("crysae", {}, arguments.data, arguments)


def teacher(arm: str, arguments: argparse.Namespace) -> Path:
    """CrysGNN, pre-trained with the losses of an arm."""
    others = [loss for loss in TEACHERS["distilled"] if loss not in TEACHERS[arm]]
    method = {"name": "crysgnn", **{f"{loss}_weight": 0.0 for loss in others}}
    name = "crysgnn" if arm == "distilled" else f"crysgnn_{arm}"
    return encoder(name, {"method": method}, arguments.pretraining_data, arguments)


def encoder(name: str, settings: dict[str, Any], data: Path, arguments: argparse.Namespace) -> Path:
    """The folder of an encoder, pre-trained unless that is done."""
    folder: Path = arguments.output_dir / "encoders" / name
    settings = {**common_settings(arguments, data, folder), **settings}
    config, _ = load_config(PretrainingConfig, HERE / f"{name.split('_')[0]}.json", settings)
    return pretrain(config).folder


def common_settings(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Any]:
    """What the command line says of every run."""
    settings = {"root_dir": data, "output_dir": folder, "resume": True, "device": arguments.device}
    trial = {"limit": arguments.limit, "epochs": arguments.epochs}
    return settings | {name: value for name, value in trial.items() if value is not None}


def print_table(errors: dict[Cell, float]) -> None:
    """Errors beside the paper's, and how much lower than vanilla each is."""
    vanilla = {(cell.target, cell.student, cell.split): error for cell, error in errors.items() if is_vanilla(cell)}
    rows = [["property", "unit", "student", "split", "arm", "test MAE", "published", "gain", "published gain"]]
    for cell, error in errors.items():
        baseline = vanilla.get((cell.target, cell.student, cell.split))
        gains = ["", ""] if is_vanilla(cell) else [gain(error, baseline), gain(cell.published, cell.published_vanilla)]
        unit = cell.unit or "-"
        figures = [f"{error:.4g}", figure(cell)]
        rows.append([cell.target, unit, cell.student, cell.split, cell.arm, *figures, *gains])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nPublished: {PUBLISHED[next(iter(errors)).table]['source']}")
    print("Here: one run each, at the epoch that was best on the validation split; the test split is predicted once.")


def is_vanilla(cell: Cell) -> bool:
    """Whether it is what the others of its student are compared with."""
    return cell.arm == "vanilla"


def figure(cell: Cell) -> str:
    """The paper's, as text."""
    return "-" if cell.published is None else f"{cell.published:g}"


def gain(error: float | None, vanilla: float | None) -> str:
    """How much lower an error is than the vanilla one, in percent."""
    return "" if error is None or vanilla is None else f"{100 * (1 - error / vanilla):.1f}%"


if __name__ == "__main__":
    sys.exit(guarded(main))
