"""Descriptions by JARVIS: ``Atoms.describe``, fast and dry."""

from __future__ import annotations

from crysmm.crystal import Crystal


class Jarvis:
    """Describes by the ``desc_2`` of JARVIS, with the Wyckoff letters in alphabetical order.

    JARVIS takes the letters from a set, so that their order, and with it the text, differs between processes.
    """

    def describe(self, crystal: Crystal) -> str:
        """A few lines: symmetry, composition, distances, the lattice, peaks of the diffraction pattern."""
        described = crystal.to_jarvis().describe()
        wyckoff = described["structure_info"]["wyckoff"]
        text: str = described["desc_2"]
        return text.removesuffix(f"{wyckoff}.") + ", ".join(sorted(wyckoff.split(", "))) + "."
