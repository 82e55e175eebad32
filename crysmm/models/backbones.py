"""The table of backbones: from a config's name to a network."""

from __future__ import annotations

from crysmm.config.models import ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig, ModelConfig
from crysmm.errors import InputError
from crysmm.models.alignn import ALIGNN
from crysmm.models.base import Backbone
from crysmm.models.cgcnn import CGCNN
from crysmm.models.crysxpp import CrysXPP
from crysmm.models.gatgnn import GATGNN
from crysmm.models.inputs import Engine


def build_backbone(model: ModelConfig, atom_input_features: int, cutoff: float, engine: Engine = "blocked") -> Backbone:
    """A backbone with fresh weights.

    Args:
        model: which one, and its widths and depths.
        atom_input_features: features an atom carries, by ``atom_features`` of the graph settings.
        cutoff: of the neighbour search, Angstrom.
        engine: which engine passes the messages.

    Raises:
        InputError: ``model.atom_input_features`` is set to another number than the atoms carry.
    """
    if model.atom_input_features not in (None, atom_input_features):
        raise InputError(
            f"model.atom_input_features is {model.atom_input_features}, but the chosen atom_features give "
            f"{atom_input_features}: leave the key out, or change atom_features"
        )
    match model:
        case CGCNNConfig():
            return CGCNN(model, atom_input_features, cutoff, engine)
        case CrysXPPConfig():
            return CrysXPP(model, atom_input_features, cutoff, engine)
        case GATGNNConfig():
            return GATGNN(model, atom_input_features, cutoff, engine)
        case ALIGNNConfig():
            return ALIGNN(model, atom_input_features, engine)
