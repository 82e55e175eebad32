"""CHGNet (Deng et al., Nature Machine Intelligence 5, 1031 (2023)), from the weights in its package.

Layers 1 to 4 are its atom convolutions, 64 features each. The default is 3, from which CHGNet reads magnetic moments.
Version 0.2.0 is left out: how it embeds a crystal without bonds of less than 3 Angstrom depends on the other crystals
in its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import torch

from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError, brief
from crysmm.teachers.names import PACKAGES, not_installed
from crysmm.teachers.teacher import LayerOutputs, chosen_layers, full_name, refuse_elements, weights_sha256

WEIGHTS = PACKAGES["chgnet"]
DEFAULT_LAYERS = (3,)


class CHGNetTeacher:
    """CHGNet as a :class:`~crysmm.teachers.teacher.Teacher`.

    Args:
        name: Key of ``WEIGHTS``.
        layers: Convolutions whose atom features are taken, from 1; None for the default.
        device: Device to compute on.

    Raises:
        MissingDependencyError: chgnet is not installed.
        InputError: There is no such layer.
    """

    def __init__(self, name: str, layers: Sequence[int] | None, device: torch.device):
        try:
            from chgnet.model.model import CHGNet
        except ImportError as error:
            raise not_installed(name, "chgnet", brief(error)) from error
        with redirect_stdout(StringIO()):  # it prints its size
            self._network = CHGNet.load(model_name=WEIGHTS[name], use_device="cpu", verbose=False)
        self._network.to(device).eval().requires_grad_(False)
        convolutions = self._network.atom_conv_layers
        chosen = chosen_layers(name, layers, DEFAULT_LAYERS, len(convolutions))
        taken = [convolutions[layer - 1] for layer in chosen]
        self._outputs = LayerOutputs(self._network, taken, lambda atoms: atoms)
        self._device = device
        self.name = full_name(name, chosen)
        self.width = len(chosen) * self._network.atom_embedding.embedding.embedding_dim
        self.checksum = weights_sha256(self._network)
        self._n_elements = self._network.atom_embedding.embedding.num_embeddings

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Return the features of all atoms, ``[n_atoms_in_all, width]``.

        Raises:
            StructureError: A crystal has an unknown element, or an atom without neighbors.
        """
        from pymatgen.core import Structure

        refuse_elements(self.name, crystals, range(1, self._n_elements + 1))
        try:
            graphs = [
                self._network.graph_converter(Structure(crystal.lattice, crystal.elements, crystal.frac_coords))
                for crystal in crystals
            ]
        except ValueError as error:
            raise StructureError(brief(error)) from error
        for graph in graphs:
            graph.lattice.requires_grad_(False)  # else torch warns that CHGNet makes a number of it
        return self._outputs.run([graph.to(self._device) for graph in graphs])
