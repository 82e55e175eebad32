"""Several arms on one split: their runs, their scores, and the paired differences to the first arm."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.comparison.arms import DEFAULT_ARMS, Arm, parse_arms
from crysmm.comparison.statistics import METRICS, Difference, Score, paired_difference, scores_of
from crysmm.config.loading import SIZES
from crysmm.config.models import MultimodalConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.estimate import memory_limit, oversized_rows
from crysmm.data.scaler import TargetScaler
from crysmm.data.split import SPLIT_KEYS, make_split, read_ids
from crysmm.data.store import Store, build_store
from crysmm.device import resolve_device
from crysmm.errors import InputError, NoResultError, StructureError, first_of
from crysmm.files import refuse_unwritable, write_csv_atomic, write_json_atomic
from crysmm.inference.assessment import Assessment
from crysmm.inference.model_folder import read_description
from crysmm.inference.prediction_table import read_predictions, write_predictions
from crysmm.inference.predictor import Predictor, load
from crysmm.io.inputs import open_input
from crysmm.models.networks import build_network
from crysmm.processes import is_first_process
from crysmm.report.html import duration, number
from crysmm.runs.run_folder import RunFolder
from crysmm.runs.summary import count
from crysmm.text.encoder import TextEncoder
from crysmm.training.run import share_of_hours
from crysmm.training.texts import find_descriptions
from crysmm.training.train import train
from crysmm.training.transfer import copy_weights
from crysmm.zoo import resolve

MARKER, TABLE, PAIRS, PAGE, IDS = "comparison.json", "comparison.csv", "paired.csv", "comparison.html", "ids"
FORMAT = "crysmm-comparison"
COLUMNS = (
    "arm", "size", "seed", "n_train", "property", "metric", "val", "test", "test_standard_error", "seconds",
)  # fmt: skip
PAIR_COLUMNS = (
    "arm", "first", "size", "property", "metric", "n_test", "n_seeds", "difference", "standard_error", "lower",
    "upper", "n_better", "n_worse", "seed_standard_error", "verdict",
)  # fmt: skip
# Settings that the split of the comparison replaces in every run.
OF_THE_SPLIT = SIZES | {"ids_file", "keep_data_order"}
FEW_CRYSTALS = 30  # below this, bootstrap intervals are noticeably too narrow

Scores = Mapping[tuple[str, str], Score]
Size = int | None
"""Number of training crystals; None for the whole training split."""


@dataclass(frozen=True)
class Result:
    """Predictions of one arm, trained on one training set with one seed.

    Args:
        arm: Name of the arm.
        size: Number of training crystals requested.
        seed: Seed of the run; None if there is nothing random in the arm.
        n_train: Number of training crystals; 0 for a model that is used without training.
        folder: Folder with the predictions.
        val: Scores on the validation split, by property and metric.
        test: Scores on the test split.
        seconds: Time of training; None if nothing was trained.
    """

    arm: str
    size: Size
    seed: int | None
    n_train: int
    folder: Path
    val: Mapping[tuple[str, str], Score]
    test: Mapping[tuple[str, str], Score]
    seconds: float | None


@dataclass(frozen=True)
class Pair:
    """Paired comparison of an arm with the first arm.

    Args:
        arm: Name of the arm.
        first: Name of the first arm.
        size: Number of training crystals requested.
        target: Name of the property; empty if there is only one.
        difference: Their difference over the test crystals.
    """

    arm: str
    first: str
    size: Size
    target: str
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Args:
        folder: Output folder.
        results: Results of all arms, by size and seed.
        pairs: Comparisons with the first arm.
        notes: Notes for the user, one line each.
        unit: Unit of the target, for texts; may be empty.
    """

    folder: Path
    results: Sequence[Result]
    pairs: Sequence[Pair]
    notes: Sequence[str] = ()
    unit: str = ""

    @property
    def page(self) -> Path:
        """Path of ``comparison.html``."""
        return self.folder / PAGE

    def of(self, arm: str, size: Size) -> list[Result]:
        """Return the results of an arm on a training set, one per seed."""
        return [result for result in self.results if result.arm == arm and result.size == size]

    @property
    def arms(self) -> list[str]:
        """Names of the arms that have results."""
        return list(dict.fromkeys(result.arm for result in self.results))

    @property
    def sizes(self) -> list[Size]:
        """Training sets, the smallest first."""
        return list(dict.fromkeys(result.size for result in self.results))

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Property and metric of each score."""
        return list(self.results[0].test)

    def verdict(self, pair: Pair) -> str:
        """Return a comparison in words."""
        found = pair.difference
        unit = f" {self.unit}" if self.unit and found.metric == "mae" else ""
        what = f"{METRICS[found.metric]}{f' of {pair.target}' if pair.target else ''}"
        place = f" with {pair.size:,} training crystals" if pair.size is not None else ""
        interval = f"95% interval {number(found.lower)} to {number(found.upper)}"
        crystals = count(found.n, "test crystal")
        if found.verdict == "no difference":
            if found.lower > 0 or found.upper < 0:
                crystals = f"{found.n_seeds} seeds, which disagree, and {crystals}"
            given = f"{place} and {crystals}" if place else f" with {crystals}"
            return (
                f"no difference between {pair.arm} and {pair.first} can be seen{given}: {what} {_signed(found.value)} "
                f"± {number(found.standard_error)}{unit} ({interval})"
            )
        return (
            f"{pair.arm} is {found.verdict} than {pair.first}{place} by {number(abs(found.value))} ± "
            f"{number(found.standard_error)}{unit} ({what}, {crystals}; difference {_signed(found.value)}, {interval})"
        )

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table of the test scores, then the comparisons in words."""
        sizes, several = self.sizes, len(self.keys) > 1
        width = max(len("arm"), *(len(name) for name in self.arms))
        seeds = any(len(self.of(arm, size)) > 1 for arm in self.arms for size in sizes)
        head = f"{'arm':<{width}}{'crystals':>10}{'seeds' if seeds else '':>7}"
        yield f"{head}{'':2}{'score' if several else '':<{18 if several else 0}}{'val':>10}{'test':>20}{'time':>14}"
        for size in sizes:
            for arm in self.arms:
                results = self.of(arm, size)
                for key in self.keys if results else ():
                    val, test, error = summary(results, key)
                    label = f"{' '.join(filter(None, [key[0], METRICS[key[1]]])):<18}" if several else ""
                    seconds = [result.seconds for result in results if result.seconds is not None]
                    taken = duration(sum(seconds)) if seconds else "-"
                    yield (
                        f"{arm:<{width}}{results[0].n_train or '-':>10}{len(results) if seeds else '':>7}{'':2}{label}"
                        f"{number(val):>10}{f'{number(test)} ± {number(error)}':>20}{taken:>14}"
                    )
        yield from (self.verdict(pair) for pair in self.pairs)


def summary(results: Sequence[Result], key: tuple[str, str]) -> tuple[float, float, float]:
    """Return the validation score, the test score and its standard error over crystals, as means over the seeds."""
    val = float(np.mean([result.val[key].value for result in results]))
    test = float(np.mean([result.test[key].value for result in results]))
    return val, test, float(np.mean([result.test[key].standard_error for result in results]))


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"


def compare(
    config: TrainingConfig,
    arms: Iterable[str] | Mapping[str, Mapping[str, Any] | None] = DEFAULT_ARMS,
    *,
    sizes: Sequence[int | None] = (None,),
    seeds: int = 1,
    unit: str = "",
    records: Sequence[Mapping[str, Any]] | None = None,
    report: Callable[[str], None] = print,
) -> Comparison | None:
    """Train several arms on one split, and compare their predictions for the same test crystals with the first arm's.

    Every arm has the settings of ``config`` but for its own. The best epoch is chosen on the validation split, and the
    test split is predicted once per run.

    Args:
        config: Settings of all arms; ``output_dir`` gets a folder of runs per arm, ``comparison.csv``, ``paired.csv``
            and ``comparison.html``. With ``resume`` finished runs are not trained again, and arms, sizes and seeds
            may be added.
        arms: Arms as on the command line (``"plain"``, ``"wide:model.node_features=128"``), or settings by name.
        sizes: Numbers of training crystals for learning curves, on nested subsets of the training split; None stands
            for the whole split. Validation and test splits stay the same.
        seeds: Number of seeds per arm, from ``config.random_seed``; the split stays the same.
        unit: Unit of the target, for texts.
        records: Structures and their properties as a list of dicts, in place of ``config.root_dir``.
        report: Function that prints which run is next.

    Returns:
        The comparison; None in all but the first process of a training on several devices.

    Raises:
        InputError: An arm, a setting, the input or the output folder cannot be used.
        NoResultError: No run has a result.
    """
    if config.output_dir is None:
        raise InputError("output_dir is not given; name the folder the comparison is to be written to")
    if seeds < 1:
        raise InputError(f"--seeds: expected a whole number, 1 or more, got {seeds}")
    plan = Plan(
        config, parse_arms(arms), sorted(set(sizes), key=lambda size: math.inf if size is None else size), seeds
    )
    started, notes = time.monotonic(), list[str]()
    if is_first_process():
        _refuse_folder(config)
        plan.check()
        prepared = Prepared.of(plan, records)
        notes += prepared.notes
        prepared.write(plan)
    cells = list(plan.trained())
    failed = {}
    for position, cell in enumerate(cells):
        if is_first_process():
            report(f"{cell.name}, {position + 1} of {len(cells)}")
        hours = share_of_hours(config.max_hours, started, len(cells) - position)
        try:
            train(cell.config.model_copy(update={"max_hours": hours}), records)
        except NoResultError as error:  # the other arms may still have one
            failed[cell.run.path] = error
            notes.append(f"{cell.name} has no result: {error}")
    if not is_first_process():
        return None
    results = [result for result in _results(plan, prepared) if result.folder not in failed]
    if not any(result.seconds is not None for result in results) and failed:
        raise next(iter(failed.values()))
    comparison = Comparison(config.output_dir, results, _pairs(results, plan), notes, unit)
    write_tables(comparison)
    return comparison


@dataclass(frozen=True)
class Cell:
    """One training run of a comparison.

    Args:
        arm: Arm.
        size: Number of training crystals.
        seed: Seed of the run.
        config: Settings of the run.
    """

    arm: Arm
    size: Size
    seed: int
    config: TrainingConfig

    @property
    def run(self) -> RunFolder:
        """Run folder."""
        assert self.config.output_dir is not None
        return RunFolder(self.config.output_dir)

    @property
    def name(self) -> str:
        """Name for messages."""
        return " ".join([self.arm.name, *([] if self.size is None else [f"on {self.size:,}"]), f"seed {self.seed}"])


@dataclass(frozen=True)
class Plan:
    """Runs of a comparison.

    Args:
        config: Settings that all arms share.
        arms: Arms, the first of which is the one to compare with.
        sizes: Numbers of training crystals, increasing.
        seeds: Number of seeds.
    """

    config: TrainingConfig
    arms: Sequence[Arm]
    sizes: Sequence[Size]
    seeds: int

    @property
    def folder(self) -> Path:
        """Output folder."""
        assert self.config.output_dir is not None
        return self.config.output_dir

    def ids_file(self, size: Size) -> Path:
        """Return the file with the ids in each split."""
        return self.folder / IDS / f"{'all' if size is None else f'n_{size}'}.json"

    def run_folder(self, arm: Arm, size: Size, seed: int | None) -> Path:
        """Return the folder of a run."""
        words = [*([] if size is None else [f"n_{size}"]), *([] if seed is None else [f"seed_{seed}"])]
        return self.folder / arm.name / ("_".join(words) or "predictions")

    def settings(self, arm: Arm, size: Size = None, seed: int | None = None) -> TrainingConfig:
        """Return the settings of a run; the seed is that of the split by default."""
        base = self.config.model_dump(exclude_unset=True)
        base = {key: value for key, value in base.items() if key not in OF_THE_SPLIT}
        seed = self.config.random_seed if seed is None else seed
        own = {"ids_file": self.ids_file(size), "output_dir": self.run_folder(arm, size, seed), "random_seed": seed}
        return arm.config({**base, **own})

    def trained(self) -> Iterator[Cell]:
        """Yield all training runs, so that the arms take turns."""
        for size in self.sizes:
            for number_ in range(self.seeds):
                seed = (self.config.random_seed + number_) % 2**32
                for arm in self.arms:
                    if arm.is_trained:
                        yield Cell(arm, size, seed, self.settings(arm, size, seed))

    def untrained(self) -> Iterator[tuple[Arm, Size, Path]]:
        """Yield the arms that are not trained, with the folders of their predictions."""
        for size in self.sizes:
            yield from ((arm, size, self.run_folder(arm, size, None)) for arm in self.arms if not arm.is_trained)

    def check(self) -> None:
        """Check the settings, the run folders and the models that the arms start from, before any structure is read.

        Raises:
            InputError: One of them cannot be used.
        """
        for cell in self.trained():
            if not self.config.overwrite:
                cell.run.check(cell.config)
        for arm in self.arms:
            if not arm.is_trained:
                continue
            config = self.settings(arm)
            head = config.distillation
            for model in (config.init_from, None if head is None else head.teacher):
                if model is None:
                    continue
                read_description(resolve(model))


def _refuse_folder(config: TrainingConfig) -> None:
    """Refuse an output folder with other content, or with a comparison that is neither resumed nor replaced."""
    folder = config.output_dir
    assert folder is not None
    refuse_unwritable(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if _read_marker(folder) is None:
        found = sorted(path.name for path in folder.iterdir())
        raise InputError(
            f"--output_dir: {folder} holds other files ({first_of(found)}) and no comparison; name a new folder"
        )
    if not config.resume and not config.overwrite:
        raise InputError(
            f"--output_dir: {folder} holds a comparison; continue it, or add arms to it, with --resume, replace it "
            "with --overwrite, or name another folder"
        )


def _read_marker(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``comparison.json``, or None if there is no such file of this package."""
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


@dataclass(frozen=True)
class Prepared:
    """Data of a comparison.

    Args:
        store: Store of the first arm, with all crystals.
        ids: Ids in each split, by training set.
        data_sha256: Checksum of the structures, targets and splits.
        notes: Notes for the user.
    """

    store: Store
    ids: Mapping[Size, Mapping[str, list[str]]]
    data_sha256: str
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan, records: Sequence[Mapping[str, Any]] | None) -> Prepared:
        """Read the structures, keep those that all arms can use, and split them.

        Raises:
            InputError: The structures cannot be read or split, or an arm cannot be trained on them.
        """
        config, notes = plan.config, list[str]()
        device = resolve_device(config.device)
        configs = [plan.settings(arm) for arm in plan.arms if arm.is_trained] or [config]
        stores, usable, reasons = [], list[set[str]](), dict[str, str]()
        for settings in configs:
            store = build_store(
                open_input(settings, records),
                settings.graph_settings(),
                cache_dir=config.cache_dir,
                jobs=config.jobs,
                strict=config.strict,
                progress=config.progress,
            )
            merge = settings.merges_equivalent(device.type)
            oversized = oversized_rows(store, settings.model, memory_limit(device), merge=merge)
            reasons |= {row.id: row.reason for row in [*store.skipped, *store.unlabeled]}
            reasons |= {store.ids[row]: reason for row, reason in oversized.items()}
            usable.append({name for row, name in enumerate(store.ids) if row not in oversized})
            stores.append(store)
        store = stores[0]
        if len(set(store.ids)) < len(store):
            raise InputError("several rows have the same id, and predictions are paired by id; give each its own")
        kept = set.intersection(*usable)
        rows = [row for row, name in enumerate(store.ids) if name in kept]
        if n_left_out := max(map(len, usable)) - len(rows):
            notes.append(f"{count(n_left_out, 'crystal')} that not every arm can use left out of all arms")
        split = make_split(config, [store.ids[row] for row in rows], [store.formulas[row] for row in rows], reasons)
        whole = {
            key: [store.ids[rows[place]] for place in places]
            for key, places in zip(SPLIT_KEYS, (split.train, split.val, split.test), strict=True)
        }
        if not whole["id_test"] or not whole["id_val"]:
            raise InputError("a comparison needs validation and test crystals; give n_val and n_test, or the ratios")
        order = random.Random(config.random_seed).sample(whole["id_train"], len(whole["id_train"]))
        ids: dict[Size, Mapping[str, list[str]]] = {}
        row_of = {name: row for row, name in enumerate(store.ids)}
        for size in plan.sizes:
            if size is not None and not 1 <= size <= len(order):
                raise InputError(
                    f"--sizes: {size} is not between 1 and the {len(order):,} crystals of the training split"
                )
            ids[size] = whole if size is None else {**whole, "id_train": order[:size]}
            for settings in configs:
                TargetScaler.fit(store.targets, [row_of[name] for name in ids[size]["id_train"]], settings)
        digest = hashlib.sha256(store.structures_sha256.encode())
        for key in SPLIT_KEYS:
            digest.update("\n".join([key, *whole[key], ""]).encode())
            digest.update(store.targets[[row_of[name] for name in whole[key]]].tobytes())
        prepared = cls(store, ids, digest.hexdigest(), notes)
        before = _read_marker(plan.folder)
        if config.resume and before is not None and before.get("data_sha256") != prepared.data_sha256:
            raise InputError(
                f"the comparison in {plan.folder} cannot be resumed: the structures, their properties, their split or "
                "the crystals that all arms can use have changed since it was begun; begin another, or replace this "
                "one with --overwrite"
            )
        for arm, settings in zip([arm for arm in plan.arms if arm.is_trained], configs, strict=False):
            _check_arm(arm, settings, records, prepared, plan)
        for arm in plan.arms:
            if arm.zero_shot is not None:
                notes += _check_zero_shot(arm, prepared, plan)
        return prepared

    def rows(self, split: str) -> list[int]:
        """Return the store rows in ``val`` or ``test``."""
        row_of = {name: row for row, name in enumerate(self.store.ids)}
        return [row_of[name] for name in next(iter(self.ids.values()))[f"id_{split}"]]

    def train_rows(self, size: Size) -> list[int]:
        """Return the store rows of a training set."""
        row_of = {name: row for row, name in enumerate(self.store.ids)}
        return [row_of[name] for name in self.ids[size]["id_train"]]

    def write(self, plan: Plan) -> None:
        """Write the splits, and the predictions of the arms that are not trained."""
        if plan.config.overwrite:
            for path in plan.folder.glob("*/*"):
                if path.is_dir() and RunFolder(path).holds_run:
                    RunFolder(path).clear()
        write_json_atomic(plan.folder / MARKER, {"format": FORMAT, "data_sha256": self.data_sha256})
        for size, ids in self.ids.items():
            write_json_atomic(plan.ids_file(size), ids)
        for arm, size, folder in plan.untrained():
            train_rows = self.train_rows(size)
            scaler = TargetScaler.fit(self.store.targets, train_rows, plan.config)
            model = None if arm.zero_shot is None else load(arm.zero_shot, plan.config.device)
            for split in ("val", "test"):
                rows = self.rows(split)
                if model is None:
                    predictions = np.tile(_constant(scaler, self.store.targets[train_rows]), (len(rows), 1))
                else:
                    predictions = _predict(arm, model, self.store, rows, plan.config.batch_size)
                write_predictions(
                    RunFolder(folder).predictions(split),
                    [self.store.ids[row] for row in rows],
                    self.store.targets[rows],
                    Assessment(predictions),
                    scaler,
                    self.store.target_names,
                )


def _constant(scaler: TargetScaler, targets: np.ndarray) -> np.ndarray:
    """Return the mean of each target, or the frequencies of the classes, in a training set."""
    if scaler.classes is None:
        return np.asarray(np.nanmean(targets, axis=0))
    counts = np.bincount(scaler.class_indices(targets), minlength=len(scaler.classes))
    return np.asarray(counts / counts.sum())


def _predict(arm: Arm, model: Predictor, store: Store, rows: Sequence[int], batch_size: int) -> np.ndarray:
    """Predict crystals of a store with a model that is used without training."""
    try:
        return model.predict([store.crystal(row) for row in rows], batch_size)
    except StructureError as error:
        raise InputError(f"arm {arm.name}: {arm.zero_shot} cannot predict a crystal of the split: {error}") from error


def _check_arm(
    arm: Arm,
    config: TrainingConfig,
    records: Sequence[Mapping[str, Any]] | None,
    prepared: Prepared,
    plan: Plan,
) -> None:
    """Check what an arm starts from before the first arm is trained.

    Raises:
        InputError: The weights do not fit the network, or there are no descriptions or no encoder for them.
    """
    try:
        if isinstance(config.head, MultimodalConfig):
            find_descriptions(config.head, config, records, prepared.store)
            TextEncoder(config.head.encoder, config.head.pooling, resolve_device(config.device))
        elif config.init_from is not None:
            scaler = TargetScaler.fit(prepared.store.targets, prepared.train_rows(plan.sizes[-1]), config)
            copy_weights(build_network(config, scaler.n_outputs, None), config.model.name, config.init_from)
    except InputError as error:
        raise InputError(f"arm {arm.name}: {error}") from error


def _check_zero_shot(arm: Arm, prepared: Prepared, plan: Plan) -> list[str]:
    """Check that a model predicts the property of the data, and return notes on what cannot be checked."""
    assert arm.zero_shot is not None
    model = load(arm.zero_shot, plan.config.device)
    scaler = TargetScaler.fit(prepared.store.targets, prepared.train_rows(plan.sizes[-1]), plan.config)
    names = prepared.store.target_names
    if model.classes != scaler.classes or model.model.scaler.threshold != scaler.threshold:
        raise InputError(
            f"arm {arm.name}: {arm.zero_shot} predicts {_kind(model.classes)}, and the other arms are trained on "
            f"{_kind(scaler.classes)}"
        )
    if len(model.target_names) != len(names):
        raise InputError(
            f"arm {arm.name}: {arm.zero_shot} predicts {', '.join(model.target_names)}, and the data have "
            f"{', '.join(names)}"
        )
    unit = model.model.description.unit
    predicted = f"{', '.join(model.target_names)}{f' in {unit}' if unit else ''}"
    return [
        f"{arm.name} predicts {predicted}, and the data have {', '.join(names)}; compare only if property and unit "
        "agree",
        *_leakage(arm.name, resolve(arm.zero_shot), prepared, plan.config),
    ]


def _kind(classes: Sequence[float] | None) -> str:
    return "values" if classes is None else f"the classes {', '.join(f'{value:g}' for value in classes)}"


def _leakage(name: str, folder: Path, prepared: Prepared, config: TrainingConfig) -> list[str]:
    """Return a note if the test crystals may be among the training crystals of a labeled model."""
    run, test = RunFolder(folder), set(prepared.ids[next(iter(prepared.ids))]["id_test"])
    if run.ids.is_file():
        ids = read_ids(run.ids)
        seen = test & {*ids["id_train"], *ids["id_val"]}
        if seen:
            return [
                f"{name}: {folder} was trained on crystals with the ids of {len(seen)} of the {len(test)} test "
                f"crystals, such as {min(seen)}; its errors on them are too low"
            ]
        return []
    return [
        f"{name}: the training crystals of {folder.name} are not known here; if the test crystals are among them, its "
        "errors are too low"
    ]


def _results(plan: Plan, prepared: Prepared) -> Iterator[Result]:
    """Yield the results, read from the tables of predictions, in the order of sizes and arms."""
    trained = {(cell.arm.name, cell.size, cell.seed): cell for cell in plan.trained()}
    untrained = {(arm.name, size): path for arm, size, path in plan.untrained()}
    for size in plan.sizes:
        for arm in plan.arms:
            n_train = 0 if arm.zero_shot is not None else len(prepared.ids[size]["id_train"])
            if not arm.is_trained:
                run = RunFolder(untrained[arm.name, size])
                yield Result(arm.name, size, None, n_train, run.path, *_read(run, prepared), None)
                continue
            for cell in (cell for (name, of, _), cell in trained.items() if (name, of) == (arm.name, size)):
                if cell.run.metrics.is_file():
                    seconds = cell.run.read_metrics()["seconds"]
                    scores = _read(cell.run, prepared)
                    yield Result(arm.name, size, cell.seed, n_train, cell.run.path, *scores, seconds)


def _read(run: RunFolder, prepared: Prepared) -> tuple[Scores, Scores]:
    """Read the scores on the validation and test splits.

    Raises:
        InputError: The predictions are not those for the crystals and targets of this comparison.
    """
    found = []
    for split in ("val", "test"):
        path = run.predictions(split)
        table = read_predictions(path)
        if list(table.rows) != prepared.ids[next(iter(prepared.ids))][f"id_{split}"]:
            raise InputError(f"{path} does not hold the crystals of this comparison; begin again with --overwrite")
        found.append(scores_of(table))
    return found[0], found[1]


def _pairs(results: Sequence[Result], plan: Plan) -> list[Pair]:
    """Compare every arm with the first."""
    first, pairs = plan.arms[0].name, []
    for size in plan.sizes:
        for arm in plan.arms[1:]:
            ours, theirs = (
                {result.seed: result for result in results if (result.arm, result.size) == (name, size)}
                for name in (arm.name, first)
            )
            if None not in ours and None not in theirs:  # a run without a result leaves its seed out of the pair
                common = ours.keys() & theirs.keys()
                ours, theirs = ({seed: one[seed] for seed in one if seed in common} for one in (ours, theirs))
            if not ours or not theirs:
                continue
            for key in next(iter(ours.values())).test:
                scores = [[result.test[key] for result in one.values()] for one in (ours, theirs)]
                pairs.append(Pair(arm.name, first, size, key[0], paired_difference(key[1], *scores)))
    return pairs


def write_tables(comparison: Comparison) -> None:
    """Write ``comparison.csv`` and ``paired.csv``."""
    rows = [
        [
            result.arm, _blank(result.size), _blank(result.seed), result.n_train, target, metric,
            result.val[target, metric].value, score.value, score.standard_error, _blank(result.seconds),
        ]
        for result in comparison.results
        for (target, metric), score in result.test.items()
    ]  # fmt: skip
    write_csv_atomic(comparison.folder / TABLE, COLUMNS, rows)
    pairs = []
    for pair in comparison.pairs:
        found = pair.difference
        pairs.append([
            pair.arm, pair.first, _blank(pair.size), pair.target, found.metric, found.n, found.n_seeds, found.value,
            found.standard_error, found.lower, found.upper, _blank(found.n_better), _blank(found.n_worse),
            _blank(found.seed_error), found.verdict,
        ])  # fmt: skip
    write_csv_atomic(comparison.folder / PAIRS, PAIR_COLUMNS, pairs)


def _blank(value: Any) -> Any:
    return "" if value is None else value
