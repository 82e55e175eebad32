"""Registry of the converters, one per code, and :func:`convert`, which writes the model folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crysmm.config.loading import read_settings
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.training import TrainingConfig
from crysmm.convert.alignn import convert_alignn
from crysmm.convert.cgcnn import convert_cgcnn, convert_crysgnn, convert_crysxpp
from crysmm.convert.checkpoint import Checkpoint, ConvertedModel, read_foreign_checkpoint
from crysmm.convert.inputs import refuse_unusable_conversion
from crysmm.inference.model_card import write_card
from crysmm.inference.model_files import DESCRIPTION_FILE, WEIGHTS_FILE
from crysmm.inference.model_folder import Origin, read_description
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


def convert(code: str, checkpoint: Path, config: Path | None, output_dir: Path) -> ConvertedModel:
    """Convert a checkpoint into a model folder.

    Args:
        code: Code that wrote the checkpoint, a key of ``CODES``.
        checkpoint: Checkpoint file.
        config: JSON file of settings: the ``config.json`` of ALIGNN, or for the other codes settings that their
            checkpoints do not record.
        output_dir: Folder to write to, which must not contain anything.

    Raises:
        InputError: A file cannot be used, or the folder is not empty.
    """
    refuse_unusable_conversion(code, checkpoint, config, output_dir)
    settings = {} if config is None else read_settings(config)
    found = read_foreign_checkpoint(checkpoint)
    converted = CODES[code](found, settings)
    try:
        _write(output_dir, converted, Origin(code=code, file=checkpoint.name, sha256=found.sha256))
        write_card(output_dir, converted_card(output_dir, converted.notes))
    except OSError:  # the disk is full: leave the folder as empty as it was
        for name in (WEIGHTS_FILE, DESCRIPTION_FILE):
            (output_dir / name).unlink(missing_ok=True)
        raise
    return converted


def _write(folder: Path, converted: ConvertedModel, origin: Origin) -> None:
    """Write the model folder, with references from a shipped model, as the training structures are not known."""
    references = [reference.crystal for reference in read_description(ZOO / shipped_names()[0]).references]
    config, network = converted.config, converted.network
    if isinstance(config, PretrainingConfig):
        backbone = network.get_submodule("backbone")
        assert isinstance(backbone, Backbone)
        save_encoder(folder, network, backbone, config, elements=None, references=references, origin=origin)
        return
    assert isinstance(config, TrainingConfig)
    assert isinstance(network, PropertyNetwork)
    assert converted.scaler is not None
    save_model(
        folder,
        network,
        config,
        converted.scaler,
        target_names=converted.target_names,
        elements=None,
        references=references,
        origin=origin,
    )
