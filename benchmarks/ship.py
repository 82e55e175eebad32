"""Make a shipped model, a folder of ``crysmm/zoo``, from the run folder of a training or a pre-training.

    python benchmarks/ship.py runs/cgcnn cgcnn-formation-energy --summary "CGCNN for formation energies."

Copies the model, and writes its card: data, command and held-out figures are those of the run, with their
standard errors. ``--figure`` puts a figure before them that is not the run's, such as the error on crystals seen by
no one, or what an encoder is worth to a student. Read the card before it is committed.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from crysmm.cli.main import guarded
from crysmm.config import PretrainingConfig, TrainingConfig
from crysmm.config.run import RunConfig
from crysmm.errors import InputError
from crysmm.inference.model_card import CITATION, SCORES, Card, write_card
from crysmm.inference.model_files import CALIBRATION_FILE, DESCRIPTION_FILE, WEIGHTS_FILE
from crysmm.inference.model_folder import ModelDescription, read_description
from crysmm.inference.saved_models import load_encoder
from crysmm.runs.card_text import run_card
from crysmm.runs.run_folder import RunFolder
from crysmm.zoo import ZOO

LARGEST = 1_000_000  # bytes of weights
LICENSED = "The weights are under the package's MIT license. They were trained on "
SOURCES = {
    "mp": (
        "Crystals of the Materials Project, as distributed with CGCNN, with values of density functional theory (PBE).",
        f"""\
{LICENSED}Materials Project data, which are under CC BY
4.0; please cite

- A. Jain et al., Commentary: The Materials Project, APL Materials 1, 011002 (2013);
- T. Xie and J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), with whose code, CGCNN, these crystals are
  distributed.""",
    ),
    "jarvis": (
        "Crystals of JARVIS-DFT (August 2021), with values of density functional theory (OptB88vdW; the gaps named MBJ "
        "by the TB-mBJ potential). The split is that of JARVIS-Leaderboard.",
        f"""\
{LICENSED}JARVIS-DFT, which NIST publishes at
jarvis.nist.gov under terms of its own; please cite

- K. Choudhary et al., The joint automated repository for various integrated simulations (JARVIS) for data-driven
  materials design, npj Computational Materials 6, 173 (2020).""",
    ),
}
"""Text about the crystals, and license and citation, by the name of their source."""


def main() -> int:
    """Copy the model, write its card, and check the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of crysmm train or crysmm pretrain")
    parser.add_argument("name", help="of the shipped model")
    parser.add_argument("--summary", required=True, help="one line that says what the model is")
    parser.add_argument("--source", choices=SOURCES, default="mp", help="of the crystals (mp)")
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
    card = make_card(arguments, settings)

    arguments.zoo.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=arguments.zoo) as temporary:
        made = Path(temporary) / arguments.name
        made.mkdir()
        for name in (WEIGHTS_FILE, DESCRIPTION_FILE, CALIBRATION_FILE):
            if (arguments.run / name).is_file():
                shutil.copyfile(arguments.run / name, made / name)
        write_card(made, card)
        load_encoder(made)
        made.rename(folder)
    print(card.text())
    return 0


def make_card(arguments: argparse.Namespace, config: RunConfig) -> Card:
    """Return the card of the run, completed with source, license and further metrics."""
    run = RunFolder(arguments.run)
    card = run_card(run, config, run.read_metrics(), name=arguments.name)
    figures = [*(f"- {figure}" for figure in arguments.figure), card.sections[SCORES]]
    source, license_text = SOURCES[arguments.source]
    data = f"{source}\n{card.sections['Data']}"
    sections = card.sections | {"Data": data, SCORES: "\n".join(figures), CITATION: license_text}
    return replace(card, summary=arguments.summary, sections=sections)


if __name__ == "__main__":
    sys.exit(guarded(main))
