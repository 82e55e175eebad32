"""A checkpoint of other code in, a model folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crysmm.config.loading import read_json
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.training import TrainingConfig
from crysmm.convert.alignn import convert_alignn
from crysmm.convert.cgcnn import convert_cgcnn, convert_crysgnn, convert_crysxpp
from crysmm.convert.checkpoint import Checkpoint, ConvertedModel, read_checkpoint
from crysmm.crystal import Crystal
from crysmm.errors import InputError
from crysmm.files import refuse_unwritable
from crysmm.inference.model_card import write_card
from crysmm.inference.model_folder import DESCRIPTION_FILE, WEIGHTS_FILE, Origin, read_description
from crysmm.inference.saved_models import save_encoder, save_model
from crysmm.models.backbone import Backbone
from crysmm.models.networks import PropertyNetwork
from crysmm.runs.card_text import converted_card
from crysmm.zoo import ZOO, shipped_names

CODES: dict[str, Callable[[Checkpoint, Mapping[str, Any]], ConvertedModel]] = {
    "alignn": convert_alignn,
    "cgcnn": convert_cgcnn,
    "crysxpp": convert_crysxpp,
    "crysgnn": convert_crysgnn,
}
NEEDS_CONFIG = {"alignn"}


def convert(code: str, checkpoint: Path, config: Path | None, output_dir: Path) -> ConvertedModel:
    """Write the model folder of a checkpoint.

    Args:
        code: whose it is, a key of ``CODES``.
        checkpoint: the file.
        config: a JSON file of settings: ALIGNN's ``config.json``, or what the others' checkpoints do not say.
        output_dir: folder to write, which must not hold anything yet.

    Raises:
        InputError: a file cannot be used, or the folder is in use.
    """
    if code in NEEDS_CONFIG and config is None:
        raise InputError(f"--config: missing; {code} needs the config.json that was written beside the checkpoint")
    _refuse_folder(output_dir)
    settings = {} if config is None else read_json(config)
    found = read_checkpoint(checkpoint)
    conversion = CODES[code](found, settings)
    try:
        _write(output_dir, conversion, Origin(code=code, file=checkpoint.name, sha256=found.sha256))
        write_card(output_dir, converted_card(output_dir, conversion.notes))
    except OSError:  # a full disk; the folder is to be as empty as it was
        for name in (WEIGHTS_FILE, DESCRIPTION_FILE):
            (output_dir / name).unlink(missing_ok=True)
        raise
    return conversion


def _refuse_folder(folder: Path) -> None:
    refuse_unwritable(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--output_dir: {folder} is not empty; name a new folder")


def _write(folder: Path, conversion: ConvertedModel, origin: Origin) -> None:
    config, network, references = conversion.config, conversion.network, _references()
    if isinstance(config, PretrainingConfig):
        backbone = network.get_submodule("backbone")
        assert isinstance(backbone, Backbone)
        save_encoder(folder, network, backbone, config, elements=None, references=references, origin=origin)
        return
    assert isinstance(config, TrainingConfig)
    assert isinstance(network, PropertyNetwork)
    assert conversion.scaler is not None
    save_model(
        folder,
        network,
        config,
        conversion.scaler,
        target_names=conversion.target_names,
        elements=None,
        references=references,
        origin=origin,
    )


def _references() -> list[Crystal]:
    """Crystals that come with the package, as the training structures are not known."""
    return [reference.crystal for reference in read_description(ZOO / shipped_names()[0]).references]
