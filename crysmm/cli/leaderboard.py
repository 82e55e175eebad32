"""``crysmm leaderboard``: make a contribution to the JARVIS-Leaderboard."""

import argparse

from crysmm.cli.options import add_config_options, config_from, folder_name, path, report
from crysmm.cli.train import one_of_several, prepare_run
from crysmm.config import TrainingConfig
from crysmm.errors import InputError
from crysmm.files import refuse_unwritable
from crysmm.publish.submission import SPLIT, VALUES, filled_in, ignored_settings, validation_fraction

ABOUT = {
    "team_name": "Name of the contributors.",
    "author_email": "E-mail address of the contributors.",
    "project_url": "Paper or page of the project.",
    "git_url": "Repository with the code.",
    "database_version": "Version of the data set.",
    "hardware_used": "Machine that the model was trained on.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the benchmark, a finished run or the settings of one, and the metadata."""
    parser.add_argument("--benchmark", required=True, metavar="NAME", help="Full name of the benchmark, ...-test-mae.")
    parser.add_argument(
        "--benchmark_file",
        type=path,
        metavar="FILE",
        help="File of the benchmark, .json.zip; by default that in the package jarvis_leaderboard, if it is installed.",
    )
    parser.add_argument(
        "--run",
        type=path,
        metavar="DIR",
        help="Finished run of crysmm train on exactly the split of the benchmark; by default a model is trained.",
    )
    parser.add_argument(
        "--contribution",
        type=folder_name,
        metavar="NAME",
        help="Name of the contribution and of its model (crysmm_BACKBONE).",
    )
    about = parser.add_argument_group("metadata", "Fields of metadata.json; those left out are placeholders.")
    for name, text in ABOUT.items():
        about.add_argument(f"--{name}", metavar="TEXT", help=text)
    add_config_options(parser, without=SPLIT | VALUES | {"model.classification"})


def run(arguments: argparse.Namespace) -> int:
    """Train unless a run is given, and write the contribution.

    Raises:
        InputError: The benchmark, a setting, the structures, the run or the folder cannot be used.
    """
    from crysmm.io.inputs import open_source
    from crysmm.publish.benchmark import load_benchmark, run_settings
    from crysmm.runs.run_folder import RunFolder

    benchmark = load_benchmark(arguments.benchmark, arguments.benchmark_file)
    config, notes = config_from(TrainingConfig, arguments)
    if arguments.run is not None:
        given = sorted(config.model_fields_set - {"output_dir"})
        if given:
            raise InputError(f"--{given[0]}: has no effect with --run, which was trained already; leave it out")
        if config.output_dir is None:
            raise InputError("--output_dir: missing; name the folder to write the contribution to")
    else:
        ignored = ignored_settings(config, SPLIT | VALUES | ({"val_ratio"} if benchmark.val else set()))
        if not benchmark.val:
            benchmark = benchmark.with_validation(validation_fraction(config), config.random_seed)
        report([*notes, *ignored, *benchmark.notes])
        prepare_run(config)
        settings = run_settings(benchmark, config)
        assert settings.output_dir is not None
        assert config.root_dir is not None
        if not one_of_several():
            RunFolder(settings.output_dir).check(settings)
        open_source(config.root_dir, id_key=config.id_key, file_format=config.file_format, needs_targets=False)
    assert config.output_dir is not None
    refuse_unwritable(config.output_dir)
    if arguments.run is not None:
        RunFolder(arguments.run).require_training()

    from crysmm.device import hardware_of
    from crysmm.processes import is_first_process
    from crysmm.publish.leaderboard import (
        CONTRIBUTIONS,
        METADATA,
        PLACEHOLDERS,
        command_lines,
        describe_score,
        next_steps,
        train_on_benchmark,
        write_contribution,
    )
    from crysmm.runs.finished_run import read_config

    finished = None if arguments.run is None else RunFolder(arguments.run)
    settings = config if finished is None else read_config(finished)
    name = arguments.contribution or f"crysmm_{settings.network}"
    folder = config.output_dir / CONTRIBUTIONS / name
    filled_in(folder / METADATA, PLACEHOLDERS)  # reports a damaged file before anything is trained
    command = command_lines(benchmark, settings, from_run=finished is not None)
    if finished is None:
        finished = train_on_benchmark(benchmark, config)
    if not is_first_process():
        return 0
    about = {key: value for key in ABOUT if (value := vars(arguments)[key]) is not None}
    device = finished.read_metrics().get("device") if arguments.run is None else None
    hardware = hardware_of(device) if isinstance(device, str) else None
    contribution = write_contribution(benchmark, finished, command, folder, name, about, hardware)
    print(describe_score(contribution.score, benchmark), *next_steps(contribution), sep="\n")
    return 0
