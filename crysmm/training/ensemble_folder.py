"""The folder of an ensemble: model folders in it, and ``ensemble.json``, which names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crysmm.errors import ModelFolderError
from crysmm.files import write_json_atomic
from crysmm.inference.folder import ENSEMBLE_FILE, read_description
from crysmm.inference.loading import LoadedModel, load_model
from crysmm.zoo import resolve


class EnsembleDescription(BaseModel):
    """What ``ensemble.json`` holds.

    Args:
        members: checksum of the weights of each member by the name of its folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["crysmm-ensemble"] = "crysmm-ensemble"
    format_version: Literal[1] = 1
    members: dict[str, str] = Field(min_length=2)

    @property
    def checksum(self) -> str:
        """Of the weights of all members."""
        return hashlib.sha256(" ".join(self.members.values()).encode()).hexdigest()


def write_ensemble(folder: Path, members: Sequence[Path]) -> str:
    """Write ``ensemble.json``.

    Args:
        folder: of the ensemble.
        members: model folders in it.

    Returns:
        The checksum of their weights.
    """
    description = EnsembleDescription(
        members={member.name: read_description(member).weights_sha256 for member in members}
    )
    write_json_atomic(folder / ENSEMBLE_FILE, description.model_dump(mode="json"))
    return description.checksum


def load_members(folder: Path | str) -> tuple[list[LoadedModel], str]:
    """The models of an ensemble, or the one of a model folder.

    Args:
        folder: of a run of ``crysmm train``, or the name of a shipped model.

    Returns:
        The models, on the CPU, and the checksum of their weights.

    Raises:
        ModelFolderError: it is neither, incomplete or damaged; the text names the file.
    """
    folder = resolve(folder)
    path = folder / ENSEMBLE_FILE
    if not path.is_file():
        model = load_model(folder)
        return [model], model.description.weights_sha256
    try:
        description = EnsembleDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # pydantic's are ValueErrors
        raise ModelFolderError(f"{path} is damaged or of another version of crysmm: {error}") from error
    models = [load_model(folder / Path(name).name) for name in description.members]
    for model, checksum in zip(models, description.members.values(), strict=True):
        if model.description.weights_sha256 != checksum:
            raise ModelFolderError(f"{model.folder} is another model than {path} names; copy the whole folder again")
    return models, description.checksum
