"""Make a shipped model, a folder of ``crysmm/zoo``, from the run folder of a training or a pre-training.

    python benchmarks/ship.py runs/cgcnn cgcnn-formation-energy --unit eV/atom --summary "CGCNN for formation energies."

Copies the model, and writes its card: data, command and held-out figures are those of the run. ``--figure`` puts a
figure of another run before them, such as what an encoder is worth to a student. Read the card before it is committed.
"""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crysmm.atomic_files import write_json_atomic, write_text_atomic
from crysmm.cli.main import guarded
from crysmm.config import PretrainingConfig, TrainingConfig
from crysmm.config.options import options
from crysmm.config.run import RunConfig
from crysmm.elements import SYMBOLS
from crysmm.errors import InputError
from crysmm.training.encoder import load_encoder
from crysmm.training.folder import FREE_SETTINGS, RunFolder
from crysmm.training.model_folder import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    Description,
    ModelDescription,
    read_description,
)
from crysmm.trust.calibration import CALIBRATION_FILE
from crysmm.zoo import ZOO
from crysmm.zoo.card import CARD_FILE, Card

LARGEST = 1_000_000  # bytes of weights
PATHS = ("root_dir", "ids_file", "init_from")  # free to change in a run that is resumed, and part of a command
LICENCE = """\
The weights are under the package's MIT licence. They were learned from Materials Project data, which are under CC BY
4.0; whoever publishes with them cites

- A. Jain et al., Commentary: The Materials Project, APL Materials 1, 011002 (2013);
- T. Xie and J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), with whose code, CGCNN, these crystals are
  distributed."""


def main() -> int:
    """Read the command line, copy, write the card, and check what has been made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of crysmm train or crysmm pretrain")
    parser.add_argument("name", help="of the shipped model")
    parser.add_argument("--summary", required=True, help="one line that says what the model is")
    parser.add_argument("--unit", help="of the target")
    parser.add_argument("--figure", action="append", default=[], help="further held-out figure, put first; repeatable")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="folder the model's folder is made in")
    arguments = parser.parse_args()
    folder = arguments.zoo / arguments.name
    if folder.exists():
        raise InputError(f"{folder} exists already; delete it first")
    size = (arguments.run / WEIGHTS_FILE).stat().st_size
    if size >= LARGEST:
        raise InputError(
            f"{arguments.run / WEIGHTS_FILE} has {size:,} bytes; a shipped model has less than {LARGEST:,}"
        )
    description = read_description(arguments.run)
    config = TrainingConfig if isinstance(description, ModelDescription) else PretrainingConfig
    settings = config.model_validate_json(RunFolder(arguments.run).config.read_text(encoding="utf-8"))
    card = make_card(arguments, description, settings)

    arguments.zoo.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=arguments.zoo) as temporary:
        made = Path(temporary) / arguments.name
        made.mkdir()
        for name in (WEIGHTS_FILE, CALIBRATION_FILE):
            if (arguments.run / name).is_file():
                shutil.copyfile(arguments.run / name, made / name)
        write_json_atomic(made / DESCRIPTION_FILE, published(arguments.run, arguments.unit))
        write_text_atomic(made / CARD_FILE, card.text())
        load_encoder(made)
        made.rename(folder)
    print(card.text())
    return 0


def published(run: Path, unit: str | None) -> dict[str, Any]:
    """``model.json`` with the unit, and of a teacher's folder its name alone."""
    content: dict[str, Any] = json.loads((run / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    if "unit" in content:
        content["unit"] = unit
    head = content["config"].get("head", {})
    if "teacher" in head:
        head["teacher"] = Path(head["teacher"]).name
    return content


def make_card(arguments: argparse.Namespace, description: Description, config: RunConfig) -> Card:
    """Everything that is known of a model, for people."""
    run = RunFolder(arguments.run)
    metrics = run.read_metrics()
    sizes = {key.removeprefix("id_"): len(ids) for key, ids in json.loads(run.ids.read_text()).items()}
    counts = f"{sizes['train']:,} to learn from, {sizes['val']:,} for validation, {sizes['test']:,} left out of both"
    if isinstance(description, ModelDescription):
        unit = f" {arguments.unit}" if arguments.unit else ""
        figures = [*property_figures(metrics, unit)]
        data = f"Learned: {', '.join(description.target_names)}{unit and ' in' + unit}, by density functional theory."
    else:
        figures = [*encoder_figures(metrics["quality"], sizes["val"])]
        data = "Learned from structures alone; of no property was a value seen."
    command = "crysmm train" if isinstance(description, ModelDescription) else "crysmm pretrain"
    words = shlex.join([*command.split(), *given(config), "--output_dir", f"runs/{arguments.name}"])
    sections = {
        "Data": f"Crystals of the Materials Project, as distributed with CGCNN: {counts}. {data}",
        "Licence and citation": LICENCE,
        "Command": f"```\n{words}\n```\n\nWith {versions(description)}; {metrics['seconds'] / 60:.0f} minutes "
        f"on {metrics['device']} in {metrics['precision']}, best epoch {metrics['best_epoch']} of {metrics['epochs']}.",
        "Held-out figures": "\n".join(f"- {figure}" for figure in [*arguments.figure, *figures]),
        "Limits": limits(description),
    }
    return Card(arguments.name, arguments.summary, sections)


def property_figures(metrics: dict[str, Any], unit: str) -> Iterator[str]:
    """A line for each split the network did not learn from."""
    for split, chosen in (("test", ""), ("val", ", by which the epoch was chosen")):
        if split in metrics:
            scores = metrics[split]
            yield (
                f"{split} MAE {scores['mae']:.4f}{unit}, RMSE {scores['rmse']:.4f}{unit}, R2 {scores['r2']:.4f}, on "
                f"{scores['n']:,} crystals{chosen}; always predicting the mean: MAE {scores['mae_of_train_mean']:.4f}"
            )


def encoder_figures(quality: dict[str, float], n_crystals: int) -> Iterator[str]:
    """A line for each score that has a baseline, the one of symmetry that needs no decoder first."""
    for name in sorted(quality, key=lambda name: not name.startswith("knn_purity")):
        baseline = quality.get(f"{name}_baseline")
        if baseline is not None:
            yield (
                f"{name.replace('_', ' ')} {quality[name]:.4f} on {n_crystals:,} crystals, {baseline:.4f} without "
                "looking at them"
            )


def given(config: RunConfig) -> Iterator[str]:
    """The options that made the run, paths without their folders, without what says where it is computed."""
    names = [name for name in type(config).model_fields if name not in FREE_SETTINGS or name in PATHS]
    files = {name: Path(path.name) for name in PATHS if (path := getattr(config, name)) is not None}
    head = getattr(config, "head", None)
    if getattr(head, "teacher", None) is not None:
        files["head"] = head.model_copy(update={"teacher": Path(head.teacher).name})
    return options(config.model_copy(update=files), names)


def versions(description: Description) -> str:
    """What the model was saved with."""
    return ", ".join(f"{name} {version}" for name, version in description.versions.items())


def limits(description: Description) -> str:
    """What holds of every model of its kind."""
    unseen = [symbol for symbol in SYMBOLS[1:95] if symbol not in description.elements]
    graph = description.graph
    lines = [
        f"It has seen {len(description.elements)} elements; of those up to plutonium not {', '.join(unseen) or 'one'}.",
        f"Graphs are {graph.neighbor_strategy}, cutoff {graph.cutoff:g} Angstrom, {graph.max_neighbors} neighbours; "
        "other graphs give other numbers.",
        "The crystals are ordered, inorganic, and relaxed by density functional theory: disorder, molecules, surfaces "
        "and structures far from equilibrium are extrapolation.",
    ]
    if isinstance(description, ModelDescription):
        lines.append(
            "It gives what PBE would, not what would be measured. Crystals of one composition are "
            "in several splits, so that new chemistry is predicted less well than the figures say."
        )
    else:
        lines.append("It predicts no property; it is to be fine-tuned (--init_from) or to teach (--head.teacher).")
    return "\n".join(f"- {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
