"""SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)), from the weights in its package.

Layers 1 to 5 are its gates, of whose features the scalars are taken, 128 each; the others turn with the crystal. By
default all are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crysmm.crystals.crystal import Crystal
from crysmm.errors import brief
from crysmm.teachers.names import PACKAGES, not_installed
from crysmm.teachers.teacher import LayerOutputs, chosen_layers, full_name, refuse_elements, weights_sha256

WEIGHTS = PACKAGES["sevenn"]
MODALITY = "PBE"  # of SevenNet-MF-0, whose features are those for one functional


class SevenNetTeacher:
    """SevenNet as a :class:`~crysmm.teachers.teacher.Teacher`.

    Args:
        name: Key of ``WEIGHTS``.
        layers: Gates whose scalars are taken, from 1; None for all.
        device: Device to compute on.

    Raises:
        MissingDependencyError: sevenn is not installed.
        InputError: There is no such layer.
    """

    def __init__(self, name: str, layers: Sequence[int] | None, device: torch.device):
        try:
            from sevenn.util import load_checkpoint, pretrained_name_to_path
        except ImportError as error:
            raise not_installed(name, "sevenn", brief(error)) from error
        self._network = load_checkpoint(pretrained_name_to_path(WEIGHTS[name])).build_model()
        self._network.delete_module_by_key("force_output")  # it needs gradients
        self._network.to(device).eval().requires_grad_(False)
        gates = [module for key, module in self._network.named_children() if key.endswith("equivariant_gate")]
        chosen = chosen_layers(name, layers, range(1, len(gates) + 1), len(gates))
        (self._n_scalars,) = {_scalars(gates[layer - 1].gate.irreps_out) for layer in chosen}
        self._outputs = LayerOutputs(self._network, [gates[layer - 1] for layer in chosen], self._read)
        self._device = device
        self.name = full_name(name, chosen)
        self.width = len(chosen) * self._n_scalars
        self.checksum = weights_sha256(self._network)

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Return the features of all atoms, ``[n_atoms_in_all, width]``.

        Raises:
            StructureError: A crystal has an unknown element.
        """
        from sevenn._keys import DATA_MODALITY
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph
        from torch_geometric.data import Batch

        refuse_elements(self.name, crystals, self._network.type_map)
        graphs = []
        for crystal in crystals:
            graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(crystal.to_ase(), self._network.cutoff))
            graph[DATA_MODALITY] = MODALITY
            graphs.append(graph)
        return self._outputs.run(Batch.from_data_list(graphs).to(self._device))

    def _read(self, output: Any) -> Tensor:
        """Return the scalars, which come first."""
        return output["x"][:, : self._n_scalars].clone()


def _scalars(irreps: Any) -> int:
    """Return the number of scalars at the beginning of features."""
    first = irreps[0]
    assert str(first.ir) == "0e", f"expected scalars first, got {irreps}"
    return int(first.mul)
