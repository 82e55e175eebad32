"""Compare intervals that widen with the distance from the training crystals with intervals of one width.

    crysmm train --root_dir elastic.jsonl.gz --target_key K_VRH --target_transform log10 --output_dir runs/elastic ...
    python -m benchmarks.intervals runs/elastic

The crystals of the validation and test splits are put together and divided anew, 200 times: one half calibrates, the
other is asked whether the intervals hold. Half-widths are in the units learned in; far is the quarter of the crystals
that is farthest from the training crystals.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

import crysmm
from crysmm.audit.leakage import read_run
from crysmm.data.store import Store
from crysmm.inference import COVERAGE
from crysmm.inference.domain import Domain, TrainingCrystal, rows_to_keep
from crysmm.inference.intervals import absolute_errors, conformal_quantile
from crysmm.runs.run_folder import RunFolder

N_DIVISIONS = 200


def main() -> int:
    """Print a line for each run and kind of interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of crysmm train, of one target")
    for run in parser.parse_args().runs:
        errors, distances, domain = held_out(RunFolder(run))
        print(f"{run}: {len(errors)} crystals held out, {COVERAGE:.0%} asked")
        for name, widths in (("one width", np.ones(len(errors))), ("by distance", domain.widths(distances))):
            held, far, half_width = judge(errors, widths, distances)
            print(f"  {name:12} hold {held:.1%}, of far crystals {far:.1%}; mean half-width {half_width:.4g}")
    return 0


def held_out(run: RunFolder) -> tuple[np.ndarray, np.ndarray, Domain]:
    """Return errors ``[n]`` and distances ``[n]`` of the validation and test crystals, and the model's domain."""
    config, store, split = read_run(run, None)
    predictor = crysmm.load(run.path)

    def embed(rows: list[int]) -> np.ndarray:
        return predictor.embed([store.crystal(row) for row in rows])

    kept = rows_to_keep(split.train, config.random_seed)
    crystals = [TrainingCrystal(store.ids[row], store.formulas[row]) for row in kept]
    domain = Domain.fit(embed(kept), crystals, embed(split.val))
    rows = [*split.val, *split.test]
    targets, predictions = tables(run, store, rows)
    errors = absolute_errors(predictor.model.scaler, targets, predictions)[:, 0]
    return errors, domain.distances(embed(rows)), domain


def tables(run: RunFolder, store: Store, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and predictions ``[n, 1]`` of some rows, from the tables of a run."""
    values = {}
    for split in ("val", "test"):
        with run.predictions(split).open(newline="", encoding="utf-8") as file:
            values |= {row["id"]: (float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)}
    both = np.array([values[store.ids[row]] for row in rows])
    return both[:, :1], both[:, 1:]


def judge(errors: np.ndarray, widths: np.ndarray, distances: np.ndarray) -> tuple[float, float, float]:
    """Return the coverage of all and of far crystals, and the mean half-width, averaged over divisions."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(N_DIVISIONS):
        order = random.permutation(len(errors))
        calibrating, asked = np.array_split(order, 2)
        scores = np.sort(errors[calibrating] / widths[calibrating])[:, None]
        quantile = conformal_quantile(scores, COVERAGE)[0]
        held = errors[asked] <= quantile * widths[asked]
        far = distances[asked] >= np.quantile(distances[asked], 0.75)
        found.append((held.mean(), held[far].mean(), (quantile * widths[asked]).mean()))
    return tuple(np.mean(found, axis=0))


if __name__ == "__main__":
    raise SystemExit(main())
