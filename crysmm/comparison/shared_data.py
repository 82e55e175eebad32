"""Data that all arms share: the crystals that each of them can use, one split, and nested training sets."""

from __future__ import annotations

import hashlib
import random
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.comparison.arms import FORMAT, MARKER, Arm, Plan, Size
from crysmm.config.graph import GraphSettings
from crysmm.config.models import MultimodalConfig
from crysmm.config.training import TargetTransform, TrainingConfig
from crysmm.data.scaler import TargetScaler
from crysmm.data.split import SPLIT_KEYS, make_split, read_ids
from crysmm.data.store import Store
from crysmm.data.units import named, units_of
from crysmm.device import resolve_device
from crysmm.errors import InputError, ModelFolderError, StructureError, count
from crysmm.files import write_json_atomic
from crysmm.inference.assessment import Assessment
from crysmm.inference.model_folder import ModelDescription
from crysmm.inference.model_teacher import describe_needed
from crysmm.inference.prediction_table import write_predictions
from crysmm.inference.predictor import Predictor, load
from crysmm.models.networks import build_network
from crysmm.runs.run_folder import RunFolder
from crysmm.text.encoder import TextEncoder
from crysmm.training.prepare import read_store, rows_too_large
from crysmm.training.teacher import read_features
from crysmm.training.texts import find_descriptions
from crysmm.training.transfer import copy_weights
from crysmm.zoo import resolve

Ids = Mapping[str, Sequence[str]]
"""Ids of each split, as in ``ids_train_val_test.json``."""
Records = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class SharedData:
    """Crystals of a comparison.

    Args:
        store: Store with all crystals.
        ids: Ids in each split, by size of the training set.
        notes: Notes for the user.
        untrained: Models that are used without training, by arm, from their check until they have predicted.
    """

    store: Store
    ids: Mapping[Size, Ids]
    notes: list[str] = field(default_factory=list)
    untrained: dict[str, Predictor] = field(default_factory=dict)

    @classmethod
    def read(cls, plan: Plan, records: Records) -> SharedData:
        """Read the structures, keep those that all arms can use, and split them.

        Args:
            plan: Arms and settings.
            records: Rows of the input in place of ``config.root_dir``.

        Raises:
            InputError: The structures cannot be read or split, or an arm cannot be trained on them.
        """
        configs = [plan.settings(arm) for arm in plan.trained_arms] or [plan.config]
        stores: dict[tuple[GraphSettings, TargetTransform], Store] = {}  # all other settings of a store are shared
        stores_of_arms, refusals = [], []
        for settings in configs:
            key = settings.graph_settings(), settings.target_transform
            if key not in stores:
                stores[key] = read_store(settings, records)
            stores_of_arms.append(stores[key])
            refusals.append(_refused(stores[key], settings))
        while True:
            data = cls._split(plan, stores_of_arms, refusals)
            for size in plan.sizes:
                for settings in configs:
                    data.scaler(size, settings)
            found: dict[tuple[str | None, str | None, int], dict[str, str]] = {}  # of arms with the same teachers, once
            failures = []
            for settings, store in zip(configs, stores_of_arms, strict=True):
                teachers = settings.teacher, settings.potential, id(store)
                if teachers not in found:
                    found[teachers] = data.not_embedded(settings, store)
                failures.append(found[teachers])
            if not any(failures):
                return data
            # Another split has other crystals to embed; it is drawn until a teacher can embed all of them.
            refusals = [refused | failed for refused, failed in zip(refusals, failures, strict=True)]

    @classmethod
    def _split(cls, plan: Plan, stores: Sequence[Store], refusals: Sequence[Mapping[str, str]]) -> SharedData:
        """Split the crystals that no arm refuses.

        Args:
            plan: Arms and settings.
            stores: Store of each arm.
            refusals: Why each arm cannot use crystals, by id.
        """
        usable = [set(store.ids) - refused.keys() for store, refused in zip(stores, refusals, strict=True)]
        # The rows of the last store: all stores have the same crystals in the same order, but for those left out.
        store, shared = stores[-1], set[str].intersection(*usable)
        rows = [row for row, name in enumerate(store.ids) if name in shared]
        ids, reasons = [store.ids[row] for row in rows], dict(ChainMap(*map(dict, refusals)))
        whole = make_split(plan.config, ids, [store.formulas[row] for row in rows], reasons).to_ids(ids)
        if not whole["id_test"] or not whole["id_val"]:
            raise InputError("a comparison needs validation and test crystals; give n_val and n_test, or the ratios")
        n_left_out = max(map(len, usable)) - len(rows)
        notes = (
            [f"{count(n_left_out, 'crystal')} that not every arm can use left out of all arms"] if n_left_out else []
        )
        return cls(store, {size: _training_set(whole, size, plan.config.random_seed) for size in plan.sizes}, notes)

    def not_embedded(self, config: TrainingConfig, store: Store) -> dict[str, str]:
        """Return why an arm's teacher cannot embed crystals, by id; the features of the others go to the cache.

        Args:
            config: Settings of the arm.
            store: Its store.

        Raises:
            InputError: A file of features does not fit the structures.
            MissingDependencyError: The package of a potential is not installed.
        """
        row_of = {name: row for row, name in enumerate(store.ids)}
        failed: dict[str, str] = {}
        for teacher, splits in ((config.teacher, SPLIT_KEYS[:2]), (config.potential, SPLIT_KEYS)):
            if teacher is None:
                continue
            ids = [name for of_size in self.ids.values() for split in splits for name in of_size[split]]
            rows = [row_of[name] for name in dict.fromkeys(ids)]
            _, reasons = read_features(teacher, store, rows, config, resolve_device(config.device))
            failed |= {store.ids[row]: f"{teacher}: {reason}" for row, reason in reasons.items()}
        return failed

    def training_rows(self, size: Size) -> list[int]:
        """Return the store rows of a training set."""
        return [self._row_of[name] for name in self.ids[size]["id_train"]]

    def held_out_rows(self, split: str) -> list[int]:
        """Return the store rows in ``val`` or ``test``."""
        return [self._row_of[name] for name in self.held_out_ids(split)]

    def held_out_ids(self, split: str) -> Sequence[str]:
        """Return the ids in ``val`` or ``test``, which are the same for all training sets."""
        return next(iter(self.ids.values()))[f"id_{split}"]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.store.ids)}

    def scaler(self, size: Size, config: TrainingConfig) -> TargetScaler:
        """Fit the target scaler to a training set.

        Raises:
            InputError: A class or a target has no crystal in it.
        """
        try:
            return TargetScaler.fit(self.store.targets, self.training_rows(size), config)
        except InputError as error:
            raise error if size is None else InputError(f"--sizes: with {size} training crystals, {error}") from error

    @property
    def checksum(self) -> str:
        """Checksum of the structures, the targets and their names, and the validation and test splits."""
        digest = hashlib.sha256(f"{self.store.structures_sha256} {self.store.target_names!r}\n".encode())
        digest.update(np.nan_to_num(self.store.targets, nan=np.inf).tobytes())
        for split in ("val", "test"):
            digest.update("\n".join([split, *self.held_out_ids(split), ""]).encode())
        return digest.hexdigest()

    def write(self, plan: Plan) -> None:
        """Write the ids of each split, and replace or continue what is in the folder.

        Raises:
            InputError: The comparison to resume has other data.
        """
        before = plan.read_marker()
        if plan.config.resume and before is not None:
            begun = [(run.size, run.folder.ids) for run in plan.runs() if run.folder.ids.is_file()]
            others = [path for size, path in begun if read_ids(path) != self.ids[size]]
            if before.get("data_sha256") != self.checksum or others:
                raise InputError(
                    f"the comparison in {plan.folder} cannot be resumed: the structures, their properties, their split "
                    "or the crystals that all arms can use have changed since it was begun; begin another, or replace "
                    "this one with --overwrite"
                )
        if plan.config.overwrite:
            for path in plan.folder.glob("*/*"):
                if path.is_dir():
                    RunFolder(path).clear()
        write_json_atomic(plan.folder / MARKER, {"format": FORMAT, "data_sha256": self.checksum})
        for size, ids in self.ids.items():
            write_json_atomic(plan.ids_file(size), ids)

    def check_arm(self, arm: Arm, plan: Plan, records: Records) -> list[str]:
        """Check what an arm starts from, before the first arm is trained.

        Returns:
            Notes for the user.

        Raises:
            InputError: Weights do not fit the network, there are no descriptions or no encoder for them, or a model
                that is used without training does not predict the property.
        """
        size = plan.sizes[-1]
        try:
            if arm.zero_shot is not None:
                return self._check_zero_shot(arm, plan)
            if not arm.is_trained:
                return []
            config = plan.settings(arm)
            if isinstance(config.head, MultimodalConfig) and config.head.reads_text:
                find_descriptions(config.head, config, records, self.store)
                TextEncoder(config.head.encoder, config.head.pooling, resolve_device(config.device))
            if config.init_from is not None:
                # A run with texts has another head, but this backbone, which is what the weights are for.
                network = build_network(config, self.scaler(size, config).n_outputs, None)
                copy_weights(network, config.model.name, config.init_from)
        except (InputError, ModelFolderError) as error:
            raise InputError(f"arm {arm.name}: {error}") from error
        needed = config.models_needed()
        labeled = [resolve(model) for model in needed if isinstance(describe_needed(model), ModelDescription)]
        return [note for folder in labeled for note in self.leakage(arm.name, folder, plan.config)]

    def _check_zero_shot(self, arm: Arm, plan: Plan) -> list[str]:
        """Check that a model predicts the property of the data, and return notes on what cannot be checked."""
        assert arm.zero_shot is not None
        model = self.untrained[arm.name] = load(arm.zero_shot, plan.config.device)
        scaler, names = self.scaler(plan.sizes[-1], plan.config), self.store.target_names
        ours = (len(names), scaler.classes, scaler.threshold)
        if (len(model.target_names), model.classes, model.model.scaler.threshold) != ours:
            raise InputError(
                f"{arm.zero_shot} predicts {_kind(model.target_names, model.classes)}, and the other arms "
                f"{_kind(names, scaler.classes)}; leave it out, or choose with target_key"
            )
        units = units_of(plan.config, names)
        predicted, given = (", ".join(named(*pair)) for pair in ((model.target_names, model.units), (names, units)))
        if any(None not in pair and len(set(pair)) > 1 for pair in zip(model.units, units, strict=True)):
            raise InputError(f"{arm.zero_shot} predicts {predicted}, and the data have {given}: another unit")
        return [
            f"{arm.name} predicts {predicted}, and the data have {given}: its errors mean something only if these are "
            "the same property in the same unit",
            *self.leakage(arm.name, resolve(arm.zero_shot), plan.config),
        ]

    def leakage(self, name: str, folder: Path, config: TrainingConfig) -> list[str]:
        """Return a note if test crystals may be among the training crystals of a model with labels.

        Args:
            name: Name of the arm that uses the model.
            folder: Model folder, or folder of a run.
            config: Settings of the comparison.
        """
        run = RunFolder(folder)
        test = set(self.held_out_ids("test"))
        if run.ids.is_file():
            ids = read_ids(run.ids)
            seen = sorted(test & {*ids["id_train"], *ids["id_val"]})
            if seen:
                return [
                    f"{name}: {folder} was trained on {len(seen)} of the {count(len(test), 'test crystal')}, by their "
                    f"ids (such as {seen[0]}); its errors are too low"
                ]
            before = run.read_config().get("root_dir") if run.config.is_file() else None
            if (
                before is not None
                and config.root_dir is not None
                and Path(before).resolve() == config.root_dir.resolve()
            ):
                return []
        return [
            f"{name}: it is not known whether {folder.name} was trained on some of the test crystals; if so, its "
            "errors are too low"
        ]

    def predict_untrained(self, arm: Arm, plan: Plan) -> list[str]:
        """Write the predictions of an arm that is not trained: the mean of each training set, or a model unchanged.

        Args:
            arm: Arm that has been checked.
            plan: Arms and settings.

        Returns:
            Notes for the user.

        Raises:
            InputError: The model cannot predict a crystal.
        """
        splits = {split: self.held_out_rows(split) for split in ("val", "test")}
        found: dict[str, np.ndarray] = {}  # the model's predictions, which are the same for all training sets
        if arm.zero_shot is not None:
            model = self.untrained.pop(arm.name)
            try:
                for split, rows in splits.items():
                    found[split] = model.predict([self.store.crystal(row) for row in rows], plan.config.batch_size)
            except StructureError as error:
                raise InputError(f"arm {arm.name}: {arm.zero_shot} cannot predict a crystal: {error}") from error
        notes = []
        for size in plan.sizes:
            folder, scaler = RunFolder(plan.run_folder(arm, size, None)), self.scaler(size, plan.config)
            training = self.store.targets[self.training_rows(size)]
            if scaler.classes is None:
                constant = np.nanmean(training, axis=0)
            else:
                constant = np.bincount(scaler.class_indices(training), minlength=len(scaler.classes)) / len(training)
            for split, rows in splits.items():
                predictions = found[split] if found else np.tile(constant, (len(rows), 1))
                ids, targets = [self.store.ids[row] for row in rows], self.store.targets[rows]
                assessment, names = Assessment(predictions), self.store.target_names
                units = units_of(plan.config, names)
                write_predictions(folder.predictions(split), ids, targets, assessment, scaler, names, units)
                if split == "val" and scaler.classes is None and size == plan.sizes[-1]:
                    own, of_mean = (np.nanmean(np.abs(values - targets)) for values in (predictions, constant))
                    if own > of_mean:
                        notes.append(
                            f"{arm.name} is worse than the mean of the training split: another property or unit?"
                        )
        return notes


def _refused(store: Store, config: TrainingConfig) -> dict[str, str]:
    """Return the reasons for the structures that an arm cannot use, by id."""
    oversized = rows_too_large(store, config, resolve_device(config.device))
    return {row.id: row.reason for row in [*store.skipped, *store.unlabeled, *oversized.values()]}


def _training_set(whole: Ids, size: Size, seed: int) -> Ids:
    """Return the split with a smaller training set, which is part of every larger one.

    Raises:
        InputError: The training split has fewer crystals.
    """
    names = whole["id_train"]
    if size is None:
        return whole
    if not 1 <= size <= len(names):
        raise InputError(f"--sizes: {size} is not between 1 and {len(names)}, the size of the training split")
    return {**whole, "id_train": random.Random(seed).sample(names, len(names))[:size]}


def _kind(names: Sequence[str], classes: Sequence[float] | None) -> str:
    """Describe what a model predicts."""
    labels = "" if classes is None else f" (classes {', '.join(f'{value:g}' for value in classes)})"
    return f"{', '.join(names)}{labels}"
