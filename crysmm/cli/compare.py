"""``crysmm compare``: several arms on one split in, a paired comparison out."""

import argparse

from crysmm.cli.options import add_config_options, config_from, path, positive, report
from crysmm.cli.train import one_of_several, prepare_run, refuse_absent
from crysmm.comparison.arms import BUILT_IN, DEFAULT_ARMS, Plan, parse_arms, read_arms
from crysmm.config import TrainingConfig
from crysmm.errors import InputError

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arms, the sizes and seeds, and the settings of the trainings."""
    parser.add_argument(
        "--arms",
        nargs="+",
        metavar="ARM",
        help=f"Arms to compare, the first of which the others are compared with ({' '.join(DEFAULT_ARMS)}). An arm is "
        f"a name, {', '.join(BUILT_IN)}, or NAME:KEY=VALUE,KEY=VALUE with settings of crysmm train: "
        "wide:model.node_features=128, distilled:head.teacher=runs/encoder, text:head.descriptions=texts.jsonl. "
        "NAME:zero_shot=MODEL is a model folder or shipped model as it is, without training.",
    )
    parser.add_argument(
        "--arms_file",
        type=path,
        metavar="FILE",
        help='JSON file with the settings of each arm in place of --arms: {"plain": {}, "wide": {"model": '
        '{"node_features": 128}}}.',
    )
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=(None,),
        metavar="N,N,...",
        help="Numbers of training crystals, for learning curves on nested subsets of the training split; all is the "
        "whole split. Validation and test splits stay the same. (all)",
    )
    parser.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="Number of seeds per arm; the split stays the same. (1)"
    )
    add_config_options(parser)


def sizes(text: str) -> list[int | None]:
    """Read comma-separated numbers of training crystals."""
    return [None if word == ALL else positive(word) for word in text.split(",")]


def run(arguments: argparse.Namespace) -> int:
    """Train and compare.

    Raises:
        InputError: An arm, a setting, the input or the output folder cannot be used.
    """
    if arguments.arms is not None and arguments.arms_file is not None:
        raise InputError("--arms_file: replaces --arms; give one of the two")
    arms = (arguments.arms or DEFAULT_ARMS) if arguments.arms_file is None else read_arms(arguments.arms_file)
    parse_arms(arms)  # errors in them are reported before the imports of a second
    config, notes = config_from(TrainingConfig, arguments)
    report(notes)
    prepare_run(config)
    from crysmm.io.inputs import open_input

    plan = Plan.of(config, arms, arguments.sizes, arguments.seeds)
    if not one_of_several():
        plan.check_folders()
    for arm in plan.trained_arms:
        refuse_absent(plan.settings(arm))
    open_input(config, None)

    from crysmm.comparison.compare import compare

    found = compare(config, arms, sizes=arguments.sizes, seeds=arguments.seeds)
    if found is not None:
        report(found.notes)
        print(*found.lines(), sep="\n")
    return 0
