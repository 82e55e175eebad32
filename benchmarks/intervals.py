"""Compare intervals that widen with the error to be expected with intervals of one width.

    crysmm train --root_dir elastic.jsonl.gz --target_key K_VRH --target_transform log10 --output_dir runs/elastic ...
    python -m benchmarks.intervals runs/elastic

The crystals of the validation and test splits are put together and divided again, 200 times: one half calibrates, and
the coverage is that of the other. Half-widths are in the units of the transformed target; far crystals are the quarter
that is farthest from the training crystals, small ones have up to four atoms.
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
from crysmm.inference.error_scale import fit_error_scale
from crysmm.inference.intervals import absolute_errors, conformal_quantile, in_units_of_training
from crysmm.runs.run_folder import RunFolder

N_DIVISIONS = 200
SMALL = 4  # atoms


def main() -> int:
    """Print a line for each run and kind of interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of crysmm train, of one target")
    for run in parser.parse_args().runs:
        errors, *known = held_out(RunFolder(run))
        print(f"{run}: {len(errors)} crystals held out, {COVERAGE:.0%} asked")
        for name, is_scaled in (("one width", False), ("expected error", True)):
            held, far, small, half_width = evaluate(errors, *known, is_scaled)
            print(f"  {name:14} hold {held:.1%}, far {far:.1%}, small {small:.1%}; mean half-width {half_width:.4g}")
    return 0


def held_out(run: RunFolder) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return errors, relative distances, numbers of atoms and predictions of the validation and test crystals."""
    _, store, split = read_run(run, None)
    predictor = crysmm.load(run.path)

    def embed(rows: list[int]) -> np.ndarray:
        return predictor.embed([store.crystal(row) for row in rows])

    kept = rows_to_keep(split.train)
    crystals = [TrainingCrystal(store.ids[row], store.formulas[row]) for row in kept]
    domain = Domain.fit(embed(kept), crystals, embed(split.val))
    rows = [*split.val, *split.test]
    targets, predictions = tables(run, store, rows)
    errors = absolute_errors(predictor.model.scaler, targets, predictions)[:, 0]
    centers = in_units_of_training(predictor.model.scaler, predictions)
    return errors, domain.relative(domain.distances(embed(rows))), store.n_atoms[rows], centers


def tables(run: RunFolder, store: Store, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and predictions ``[n, 1]`` of some rows, from the tables of a run."""
    values = {}
    for split in ("val", "test"):
        with run.predictions(split).open(newline="", encoding="utf-8") as file:
            values |= {row["id"]: (float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)}
    both = np.array([values[store.ids[row]] for row in rows])
    return both[:, :1], both[:, 1:]


def evaluate(
    errors: np.ndarray, distances: np.ndarray, n_atoms: np.ndarray, predictions: np.ndarray, is_scaled: bool
) -> tuple[float, float, float, float]:
    """Return the coverage of all, of far and of small crystals, and the mean half-width, averaged over divisions."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(N_DIVISIONS):
        mine, others = np.array_split(random.permutation(len(errors)), 2)
        ratios, expected = errors[mine, None], np.ones(len(others))
        if is_scaled:
            scale, ratios = fit_error_scale(ratios, distances[mine], n_atoms[mine], predictions[mine])
            expected = scale.expected(distances[others], n_atoms[others], predictions[others])[:, 0]
        half_width = expected * conformal_quantile(np.sort(ratios, axis=0), COVERAGE)[0]
        held = errors[others] <= half_width
        far, small = distances[others] >= np.quantile(distances[others], 0.75), n_atoms[others] <= SMALL
        found.append((held.mean(), held[far].mean(), held[small].mean(), half_width.mean()))
    return tuple(np.mean(found, axis=0))


if __name__ == "__main__":
    raise SystemExit(main())
