r"""Properties of all of JARVIS-DFT on the official splits, as in table 2 of the CrysGNN paper.

    python -m benchmarks.jarvis_dft run --data jarvis_dft_3d_2021.jsonl.gz --work DIR --arms plain "from several" \
        --properties mbj_bandgap bulk_modulus_kv
    python -m benchmarks.jarvis_dft run --data jarvis_dft_3d_2021.jsonl.gz --work DIR --several multitask-jarvis \
        --percent 1 5 20 --arms plain "from several" --properties mbj_bandgap
    python -m benchmarks.jarvis_dft report

The split of a property shuffles the rows that have it with seed 123 and takes 80/10/10, as JARVIS-Leaderboard does. The
epoch is chosen on validation and the test split is predicted once. ``from decoys`` fine-tunes the shipped encoder,
which saw structures of the Materials Project and no label; the arms with ``imitation-jarvis`` use an encoder that saw
SevenNet-0's features of these crystals, test crystals among them, and no label. ``from several`` fine-tunes a network
that was trained on four properties at once, without the validation and test structures of the properties in
``HELD_OUT`` and their duplicates. With labels by a network, which is trained before, more crystals are trained on,
with what that network predicts for them: those of the training split whose labels are not used, or, where all are,
those that lack the property. The arms with text read what ``crysmm describe`` wrote of the crystals. Each finished run
becomes a row of the results file; the predictions of all arms for the same test crystals stand side by side in one file
per property, so that differences can be paired. ``--percent`` labels fewer than the 80% of a full training split, the
first of it, for learning curves with the same validation and test crystals; ``--seeds`` draws other weights and other
batches for the same split.
"""

import argparse
import csv
import json
import math
import platform
import re
import statistics
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.curves import Curves, plot_curves
from benchmarks.predicted_labels import FULL, official_split, with_predicted_labels
from benchmarks.several import SEED, train_on_several
from benchmarks.study import ARMS as ARMS_OF_STUDIES
from benchmarks.study import SEVERAL, SHIPPED, Arm, call, folder_name, fused_with, numbers, read_rows
from benchmarks.texts import make_texts, reading
from crysmm.files import write_csv_atomic, write_json_atomic

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "jarvis.csv"
RECIPE = ["--epochs", "40", "--batch_size", "64", "--learning_rate", "4e-3", "--weight_decay", "0.1"]
PROPERTIES = {
    "mbj_bandgap": "eV",
    "bulk_modulus_kv": "GPa",
    "shear_modulus_gv": "GPa",
    "slme": "%",
    "spillage": "",
    "formation_energy_peratom": "eV/atom",
    "optb88vdw_bandgap": "eV",
    "ehull": "eV/atom",
    "optb88vdw_total_energy": "eV/atom",
}
HELD_OUT = ("mbj_bandgap", "bulk_modulus_kv", "shear_modulus_gv", "slme", "spillage")
FUSED = "fused with sevennet-0"
LABELERS = {
    "with labels by the plain network": "plain",
    "with labels by the fused network": FUSED,
    "from several, with labels by the fused network": f"from several, {FUSED}",
}
"""Arms whose additional labels another arm predicts, which is trained before."""
LONG = ("--weight_decay", "1e-5", "--learning_rate", "2e-3", "--epochs")
WIDE = ("--model.node_features", "128", "--model.conv_layers", "4")
DECOYS = ARMS_OF_STUDIES["cgcnn distilled from decoys, delta rising"]
ARMS = {
    "plain": Arm(),
    "wide, 80 epochs": Arm((*WIDE, *LONG, "80")),
    "small alignn, 60 epochs": Arm((*ARMS_OF_STUDIES["small alignn"].options, *LONG, "60")),
    "distilled from crysgnn": ARMS_OF_STUDIES["cgcnn distilled from crysgnn"],
    "distilled from decoys": DECOYS,
    "from decoys": Arm(("--init_from",), "decoys"),
    "from decoys, weight decay 1e-5": Arm(("--weight_decay", "1e-5", "--init_from"), "decoys"),
    "from several": Arm(("--init_from",), SEVERAL),
    "from several, distilled from decoys": Arm((*DECOYS.options, SHIPPED["decoys"], "--init_from"), SEVERAL),
    "features of sevennet-0 alone": ARMS_OF_STUDIES["features of sevennet-0 alone"],
    "distilled from sevennet-0": ARMS_OF_STUDIES["cgcnn distilled from sevennet-0, delta rising"],
    FUSED: ARMS_OF_STUDIES["cgcnn fused with sevennet-0"],
    f"wide, {FUSED}": Arm((*WIDE, *fused_with("sevennet-0"), "--learning_rate", "2e-3", "--epochs", "80")),
    f"{FUSED}, five networks": ARMS_OF_STUDIES["cgcnn fused with sevennet-0, five networks"],
    f"from several, {FUSED}": ARMS_OF_STUDIES["cgcnn from several properties, fused with sevennet-0"],
    f"from several, {FUSED}, five networks": ARMS_OF_STUDIES[
        "cgcnn from several properties, fused with sevennet-0, five networks"
    ],
    "with labels by the plain network": Arm(),
    "with labels by the fused network": Arm(),
    "from several, with labels by the fused network": Arm(("--init_from",), SEVERAL),
    "features of imitation-jarvis alone": ARMS_OF_STUDIES["features of imitation-jarvis alone"],
    "features of multitask-jarvis alone": Arm(("--head", "features", "--head.embeddings", "multitask-jarvis")),
    "fused with imitation-jarvis": ARMS_OF_STUDIES["cgcnn fused with imitation-jarvis"],
    "from several, fused with imitation-jarvis": Arm((*fused_with("imitation-jarvis"), "--init_from"), SEVERAL),
    "from imitation": ARMS_OF_STUDIES["cgcnn from imitation"],
    "features of chgnet alone": ARMS_OF_STUDIES["features of chgnet alone"],
    "fused with chgnet": ARMS_OF_STUDIES["cgcnn fused with chgnet"],
    "distilled from chgnet": ARMS_OF_STUDIES["cgcnn distilled from chgnet, delta rising"],
    "from several, fused with chgnet": Arm((*fused_with("chgnet"), "--init_from"), SEVERAL),
    "with the space group": Arm(text="space group"),
    "with text": Arm(text="own"),
    "with shuffled text": Arm(text="shuffled"),
    "crysxpp": ARMS_OF_STUDIES["crysxpp"],
    "crysxpp from crysae": ARMS_OF_STUDIES["crysxpp from crysae"],
    "gatgnn": ARMS_OF_STUDIES["gatgnn"],
    "gatgnn distilled from decoys": ARMS_OF_STUDIES["gatgnn distilled from decoys, delta rising"],
    "gatgnn with text": ARMS_OF_STUDIES["gatgnn with text"],
}
DRAWN = (
    "plain", "from several", "distilled from decoys", FUSED, f"from several, {FUSED}",
    "from several, fused with imitation-jarvis",
)  # fmt: skip
"""Arms in the figure of learning curves; the results file has more."""
COLUMNS = (
    "arm", "property", "percent", "seed", "n_train", "n_test", "val_mae", "test_mae", "standard_error", "epochs",
    "hours", "precision", "processor",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what has no result yet, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what has no result yet")
    run.add_argument("--data", type=Path, required=True, help="JSONL file with all of JARVIS-DFT")
    run.add_argument("--work", type=Path, required=True, help="folder of the runs")
    run.add_argument("--arms", nargs="+", default=["plain"], choices=ARMS, metavar="ARM", help=", ".join(ARMS))
    run.add_argument("--properties", nargs="+", default=list(PROPERTIES), choices=PROPERTIES, metavar="PROPERTY")
    run.add_argument("--percent", nargs="+", type=float, default=[FULL], help=f"labeled part of all crystals ({FULL})")
    run.add_argument("--seeds", default=[SEED], type=numbers, help=f"comma-separated ({SEED})")
    run.add_argument("--several", help='network that "from several" starts from; by default one is trained')
    run.add_argument("--descriptions", type=Path, help="file of descriptions, for the arms with text")
    run.add_argument("--jobs", type=int, default=1, help="number of such commands that share the cores (1)")
    for command in (run, commands.add_parser("report", help="print the table")):
        command.add_argument("--results", type=Path, default=RESULTS, help="CSV file of errors")
    options = parser.parse_args(arguments)
    if options.command == "run":
        if options.descriptions is None and any(ARMS[arm].text for arm in options.arms):
            parser.error("--descriptions: needed by the arms with text")
        for seed, name, percent, arm in product(options.seeds, options.properties, options.percent, options.arms):
            run_of = {"arm": arm, "property": name, "percent": f"{percent:g}", "seed": str(seed)}
            if not any(run_of.items() <= row.items() for row in read_results(options.results)):
                train(options, arm, name, percent, seed)
    results = read_results(options.results)
    print(table([row for row in results if float(row["percent"]) == FULL and int(row["seed"]) == SEED]))
    if panels := curves_by_property(results):
        plot_curves(options.results.with_suffix(".png"), panels, "labeled crystals")


def train(options: argparse.Namespace, arm: str, name: str, percent: float, seed: int) -> None:
    """Train one arm on one property, and add its result to the files."""
    of_percent, of_seed = "" if percent == FULL else f"_{percent:g}", "" if seed == SEED else f"_seed_{seed}"
    task = name + of_percent + of_seed
    folder = options.work / folder_name(arm) / task
    if labeler := LABELERS.get(arm):
        teacher = options.work / folder_name(labeler) / task
        labels = options.work / "predicted_labels" / folder_name(labeler) / task
        data = with_predicted_labels(options.data, name, percent, teacher, labels)
    else:
        ids = options.work / f"ids_{name}{of_percent}.json"
        write_json_atomic(ids, official_split(read_rows(options.data), name, percent))
        data = ["--root_dir", str(options.data), "--target_key", name, "--ids_file", str(ids)]
    call(["train", *data, "--random_seed", str(seed), *RECIPE, *arm_options(options, ARMS[arm])], folder, options.jobs)
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "prediction_results_test_set.csv").open(newline="") as file:
        predictions = list(csv.DictReader(file))
    errors = [abs(float(row["prediction"]) - float(row["target"])) for row in predictions]
    row = {
        "arm": arm,
        "property": name,
        "percent": f"{percent:g}",
        "seed": seed,
        "n_train": metrics["train"]["n"],
        "n_test": len(errors),
        "val_mae": metrics["val"]["mae"],
        "test_mae": statistics.fmean(errors),
        "standard_error": statistics.stdev(errors) / math.sqrt(len(errors)),
        "epochs": metrics.get("epochs"),  # features alone have none
        "hours": metrics["seconds"] / 3600,
        "precision": metrics["precision"],
        "processor": processor(),
    }
    rows = [*read_results(options.results), row]
    write_csv_atomic(options.results, COLUMNS, [[found[key] for key in COLUMNS] for found in rows])
    if percent == FULL and seed == SEED:
        add_predictions(options.results.parent / "jarvis_predictions" / f"{name}.csv", arm, predictions)


def arm_options(options: argparse.Namespace, arm: Arm) -> list[str]:
    """Return the options of ``crysmm train`` that an arm adds; a network that it starts from is trained first."""
    added = list(arm.options)
    if arm.encoder == SEVERAL:
        several = options.several or train_on_several(
            options.data, options.work / "several", lambda: held_out_ids(options.data), RECIPE, options.jobs
        )
        added.append(str(several))
    elif arm.encoder is not None:
        added.append(SHIPPED[arm.encoder])
    if arm.text is not None:
        added += reading(make_texts(options.descriptions, options.work / "descriptions")[arm.text])
    return added


def add_predictions(path: Path, arm: str, predictions: Sequence[dict[str, str]]) -> None:
    """Add the column of an arm to the file with the test crystals of a property.

    Raises:
        ValueError: The file has other crystals.
    """
    table: dict[str, dict[str, str]] = {row["id"]: {"id": row["id"], "target": row["target"]} for row in predictions}
    if path.exists():
        with path.open(newline="") as file:
            found = {row["id"]: row for row in csv.DictReader(file)}
        if list(found) != list(table):
            raise ValueError(f"{path} has other test crystals than this run; the arms cannot be paired")
        table = found
    for row in predictions:
        table[row["id"]][arm] = f"{float(row['prediction']):.5g}"
    columns = list(next(iter(table.values())))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv_atomic(path, columns, [list(row.values()) for row in table.values()])


def held_out_ids(data: Path) -> set[str]:
    """Return the ids of the validation and test crystals of the properties in ``HELD_OUT``."""
    rows = read_rows(data)
    splits = [official_split(rows, name) for name in HELD_OUT]
    return {one for split in splits for one in (*split["id_val"], *split["id_test"])}


def read_results(path: Path) -> list[dict[str, str]]:
    """Read the results file; it has no rows before the first run."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(results: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table: test MAE with its standard error over crystals, one row per property."""
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in results)]
    lines = ["| | test crystals | " + " | ".join(arms) + " |", "|-" * (len(arms) + 2) + "|"]
    for name, unit in PROPERTIES.items():
        found = {row["arm"]: row for row in results if row["property"] == name}
        if found:
            cells = [
                f"{float(found[arm]['test_mae']):.3g} ± {float(found[arm]['standard_error']):.1g}"
                if arm in found
                else "not run"
                for arm in arms
            ]
            n_test = int(next(iter(found.values()))["n_test"])
            lines.append(f"| {name}{f', {unit}' if unit else ''} | {n_test:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curves_by_property(results: Sequence[dict[str, str]]) -> dict[str, Curves]:
    """Return the learning curves by the label of their axis, of properties and arms in ``DRAWN`` with several sizes."""
    panels: dict[str, Curves] = {}
    for name, unit in PROPERTIES.items():
        curves: dict[str, dict[int, dict[int, float]]] = {}
        for row in results:
            if row["property"] == name and row["arm"] in DRAWN:
                seeds = curves.setdefault(row["arm"], {}).setdefault(int(row["n_train"]), {})
                seeds[int(row["seed"])] = float(row["test_mae"])
        if several := {arm: by_amount for arm, by_amount in curves.items() if len(by_amount) > 1}:
            panels[f"{name}: test MAE{f', {unit}' if unit else ''}"] = several
    return panels


def processor() -> str:
    """Return the name of this machine's processor, or its architecture where Linux does not give it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
