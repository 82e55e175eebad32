"""Descriptions by Robocrystallographer: Ganose and Jain, MRS Communications 9, 874 (2019).

The text is the program's own, five times faster: prototypes whose anonymous formula is another one cannot match and
are not tried, and the table of molecules is read once instead of once a crystal. It is used offline: a molecule that
the table does not know is not looked for on PubChem.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pymatgen.core import Structure
from robocrys import StructureCondenser, StructureDescriber
from robocrys.condense import condenser
from robocrys.condense.mineral import MineralMatcher, ReducedAflowPrototypeMatcher
from robocrys.condense.molecule import MoleculeNamer

from crysmm.crystal import Crystal

NUMPY_NUMBER = re.compile(r"np\.\w+\(([^()]*)\)")


class SameFormulaMatcher(MineralMatcher):
    """Tries only the prototypes that have the structure's anonymous formula (AB2 for MoS2); the others never match."""

    def __init__(self) -> None:
        super().__init__()
        self.mineral_db["anonymous"] = [
            structure.composition.anonymized_formula for structure in self.mineral_db["structure"]
        ]

    def get_aflow_matches(self, structure: Any) -> list[dict[str, Any]] | None:
        """As the parent's."""
        self._set_distance_matrix(structure)
        minerals = self._mineral_db
        assert minerals is not None
        matcher = ReducedAflowPrototypeMatcher(
            self.initial_ltol,
            self.initial_stol,
            self.initial_angle_tol,
            minerals[minerals["anonymous"] == structure.composition.anonymized_formula],
        )
        matches: list[dict[str, Any]] | None = matcher.get_prototypes(structure)
        return matches


@cache
def offline_namer() -> MoleculeNamer:
    """The table of molecules, read once."""
    return MoleculeNamer(use_online_pubchem=False)


class Robocrystallographer:
    """Describes as Robocrystallographer does with its own settings."""

    def __init__(self) -> None:
        condenser.MoleculeNamer = offline_namer  # type: ignore[misc, assignment]  # it makes one for each crystal
        self._condenser = StructureCondenser(mineral_matcher=SameFormulaMatcher())
        self._describer = StructureDescriber()

    def describe(self, crystal: Crystal) -> str:
        """A paragraph: symmetry, prototype, the surroundings of each kind of site, bond lengths and angles."""
        structure = Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
        text = str(self._describer.describe(self._condenser.condense_structure(structure)))
        return NUMPY_NUMBER.sub(r"\1", text)  # numpy 2 writes np.int64(1) where 1 is meant
