"""``crysmm train``: train a model, and write its run folder."""

import argparse
import os

from crysmm.cli.options import add_config_options, add_print_config, config_from, printed, refuse_absent_device, report
from crysmm.config import MultimodalConfig, RunConfig, TrainingConfig
from crysmm.errors import InputError
from crysmm.files import cache_folder

RANKS = {"LOCAL_RANK", "RANK"}  # environment of the processes of a run that has several


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all settings of a training run, and the option to print them."""
    add_print_config(parser)
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, or print the settings."""
    config, notes = config_from(TrainingConfig, arguments)
    report(notes)
    return 0 if printed(config, arguments) else train_with(config)


def train_with(config: TrainingConfig) -> int:
    """Train after a note on files in the folder of structures that other codes read and this one does not.

    Raises:
        InputError: No input or no output folder is named.
    """
    prepare_run(config)
    refuse_unusable_run(config)
    assert config.root_dir is not None
    features, ids = config.root_dir / "atom_init.json", config.root_dir / "ids_train_val_test.json"
    if features.is_file():
        report([f"{features} is not read: the element features are those of --atom_features {config.atom_features}"])
    if config.ids_file is None and ids.is_file():
        report([f"{ids} is not used: give --ids_file {ids} to use its split"])
    from crysmm.training.train import train

    train(config)
    return 0


def prepare_run(config: RunConfig) -> None:
    """Check that a run has an input, an output and all that it needs, before anything slow is imported.

    Raises:
        InputError: No input or no output folder is named; the device or a file of descriptions is not there.
        ModelFolderError: A model that the run starts from is not there.
    """
    for key, what in (("root_dir", "the structures to train on"), ("output_dir", "the folder to write the run to")):
        if dict(config)[key] is None:
            raise InputError(f"--{key}: missing; name {what}")
    # Matplotlib, which training imports, caches a list of fonts, by default in the home folder, which clusters may
    # mount read-only.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder(config.cache_dir) / "matplotlib"))
    refuse_absent(config)


def one_of_several() -> bool:
    """Return whether this is one of several processes that train together, whose first may write the folder already."""
    n_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # set by srun; sbatch sets SLURM_PROCID for one, too
    return bool(RANKS & os.environ.keys()) or n_tasks > 1


def refuse_unusable_run(config: RunConfig) -> None:
    """Refuse an output folder, input or units that a run would refuse after torch is imported.

    Raises:
        InputError: One of them cannot be used.
    """
    from crysmm.data.units import units_of
    from crysmm.io.inputs import open_input
    from crysmm.runs.run_folder import RunFolder

    assert config.output_dir is not None
    if one_of_several():
        return
    RunFolder(config.output_dir).check(config)
    source = open_input(config, None)
    if isinstance(config, TrainingConfig):
        units_of(config, source.target_names)


def refuse_absent(config: RunConfig) -> None:
    """Refuse a device, models and a file of descriptions that are not there, before torch is imported.

    Raises:
        InputError: The device or the file is not there.
        ModelFolderError: A model that the run starts from is not there.
    """
    from crysmm.inference.model_files import require_needed

    refuse_absent_device(config.device)
    for model in config.models_needed():
        require_needed(model)
    if isinstance(config, TrainingConfig) and isinstance(config.head, MultimodalConfig):
        path = config.head.descriptions
        if path is not None and not path.is_file():
            raise InputError(f"--head.descriptions: {path} is not a file; crysmm describe writes it")
