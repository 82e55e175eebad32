"""Several arms on one split: training them in turn, and comparing their errors on the same test crystals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crysmm.comparison.arms import DEFAULT_ARMS, Plan
from crysmm.comparison.page import write_page
from crysmm.comparison.results import Comparison, compare_with_first, read_results
from crysmm.comparison.shared_data import SharedData
from crysmm.config.loading import override
from crysmm.config.training import TrainingConfig
from crysmm.data.units import units_of
from crysmm.errors import InputError, NoResultError
from crysmm.io.table import Records
from crysmm.processes import is_first_process, run_on_first
from crysmm.training.run import share_of_hours
from crysmm.training.train import train

ONE_SEED = (
    "one seed per arm: other initial weights would change the differences, which the intervals do not show; give "
    "several seeds to see by how much"
)


def compare(
    config: TrainingConfig | Mapping[str, Any],
    arms: Iterable[str] | Mapping[str, Mapping[str, Any] | None] = DEFAULT_ARMS,
    *,
    sizes: Sequence[int | None] = (None,),
    seeds: int = 1,
    records: Records | None = None,
    report: Callable[[str], None] = print,
) -> Comparison | None:
    """Train several arms on one split, and compare their errors on the same test crystals with those of the first.

    All arms have the settings of ``config``, except for their own. The best epoch is chosen on the validation split,
    and each run predicts the test split once.

    Args:
        config: Settings of all arms, also as a dict. ``output_dir`` gets a run folder per arm, size and seed,
            ``comparison.csv``, ``paired.csv`` and ``comparison.html``. With ``resume`` finished runs are not trained
            again, and arms, sizes and seeds can be added. All runs share ``max_hours``.
        arms: Arms as on the command line (``"plain"``, ``"wide:model.node_features=128"``), or settings by name.
        sizes: Numbers of training crystals, for learning curves on nested subsets of the training split; None
            represents the whole split. The validation and test splits stay the same.
        seeds: Number of seeds per arm, from ``config.random_seed``; the split stays the same.
        records: Structures and their properties as a list of dicts or a pandas ``DataFrame``, in place of
            ``config.root_dir``.
        report: Function that prints which run is next.

    Returns:
        The comparison, or None in all but the first process of a training on several devices.

    Raises:
        InputError: An arm, a setting, the input or the output folder cannot be used; nothing has been written.
        NoResultError: No run has a result.
    """
    config = override(TrainingConfig, config, {})
    if config.output_dir is None:
        raise InputError("output_dir is not given; name the folder the comparison is to be written to")
    if seeds < 1:
        raise InputError(f"seeds: expected a whole number, 1 or more, got {seeds}")
    plan = Plan.of(config, arms, sizes, seeds)
    started, notes, read = time.monotonic(), list[str](), list[SharedData]()

    def prepare() -> None:
        plan.check()
        data = SharedData.read(plan, records)
        notes.extend([*data.notes, *(note for arm in plan.arms for note in data.check_arm(arm, plan, records))])
        data.write(plan)
        for arm in plan.arms:
            if not arm.is_trained:
                notes.extend(data.predict_untrained(arm, plan))
        read.append(data)

    run_on_first(config, prepare)
    runs, failures = plan.runs(), list[NoResultError]()
    for position, run in enumerate(runs):
        if is_first_process():
            report(f"{run.name}, {position + 1} of {len(runs)}")
        hours = share_of_hours(config.max_hours, started, len(runs) - position)
        try:
            train(run.config.model_copy(update={"max_hours": hours}), records)
        except NoResultError as error:  # the other runs may still have one
            failures.append(error)
            notes.append(f"{run.name} has no result: {error}")
    if not read:  # not the first process
        return None
    (data,) = read
    if runs and len(failures) == len(runs):
        raise failures[0]
    results = read_results(plan, data.ids)
    if seeds == 1 and runs:
        notes.append(ONE_SEED)
    pairs, settings = compare_with_first(results, plan), plan.differing_settings()
    names = data.store.target_names
    units = dict(zip(names if len(names) > 1 else ("",), units_of(config, names), strict=True))
    comparison = Comparison(config.output_dir, data.held_out_ids("test"), results, pairs, settings, units, notes)
    comparison.write_tables()
    write_page(comparison)
    return comparison
