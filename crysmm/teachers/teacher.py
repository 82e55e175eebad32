"""Contract of teachers: structures in, one row of features per atom out, with a name and a checksum of the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from crysmm.crystals.crystal import Crystal
from crysmm.elements import SYMBOLS
from crysmm.errors import InputError, StructureError, first_of


class Teacher(Protocol):
    """Frozen network that embeds atoms; :func:`crysmm.testing.check_teacher` checks an implementation.

    Features of an atom depend on its crystal alone, neither on the others in the call nor on how the crystal is
    described: they are the same in a rotated or translated crystal and in a supercell.

    Attributes:
        name: Name by which :func:`~crysmm.teachers.registry.load_teacher` finds it again, with its layers.
        width: Number of features per atom.
        checksum: Checksum of the weights; features in the cache are found by name and checksum.
    """

    name: str
    width: int
    checksum: str

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Return the features of all atoms, crystal by crystal in the order given, ``[n_atoms_in_all, width]``.

        Raises:
            StructureError: A crystal cannot be embedded.
        """
        ...


TeacherLoader = Callable[[Sequence[int] | None, torch.device], Teacher]
"""Function from the requested layers, None for the default, and the device to a teacher."""
TeacherByName = Callable[[str, torch.device | str], Teacher]
"""Function from a name and the device to a teacher."""


class LayerOutputs:
    """Outputs of some layers of a network, recorded while it runs.

    Args:
        network: Network that has the layers.
        layers: Layers in the order in which they run.
        read: Returns the features in an output of a layer, ``[n_atoms_in_all, width]``.
    """

    def __init__(self, network: nn.Module, layers: Iterable[nn.Module], read: Callable[[Any], Tensor]):
        self._network = network
        self._read = read
        self._outputs: list[Tensor] = []
        for layer in layers:
            layer.register_forward_hook(self._record)

    def _record(self, layer: nn.Module, inputs: object, output: object) -> None:
        self._outputs.append(self._read(output))

    def run(self, graphs: Any) -> np.ndarray:
        """Run the network; return the outputs of the layers side by side, ``[n_atoms_in_all, width]`` float32."""
        self._outputs = []  # a run that failed may have left some
        with torch.no_grad():
            self._network(graphs)
        return torch.cat(self._outputs, dim=1).float().cpu().numpy()


def chosen_layers(name: str, layers: Sequence[int] | None, default: Sequence[int], n_layers: int) -> list[int]:
    """Return the numbers of the layers to take, ascending.

    Args:
        name: Name of the teacher, for the message.
        layers: Requested layers, from 1; None for the default.
        default: Layers that are taken by default.
        n_layers: Number of layers of the network.

    Raises:
        InputError: The network has no such layer.
    """
    chosen = sorted(set(default if layers is None else layers))
    unknown = [str(layer) for layer in chosen if not 1 <= layer <= n_layers]
    if unknown:
        raise InputError(f"{name} has the layers 1 to {n_layers}, and not {', '.join(unknown)}")
    return chosen


def full_name(name: str, layers: Sequence[int]) -> str:
    """Return the name of a teacher with its layers: ``sevennet-0:1+2+3+4+5``."""
    return f"{name}:{'+'.join(map(str, layers))}"


def refuse_elements(name: str, crystals: Iterable[Crystal], known: Iterable[int]) -> None:
    """Refuse crystals with elements that a teacher has not seen.

    Args:
        name: Name of the teacher.
        crystals: Crystals to embed.
        known: Atomic numbers that it knows.

    Raises:
        StructureError: A crystal has another element.
    """
    known = set(known)
    for crystal in crystals:
        unknown = [SYMBOLS[number] for number in np.unique(crystal.atomic_numbers).tolist() if number not in known]
        if unknown:
            raise StructureError(f"{name} does not know {first_of(unknown)}")


def weights_sha256(network: nn.Module) -> str:
    """Return a checksum of the weights and buffers of a network: names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
