"""Crystal structures as pictures that can be turned, drawn in the browser by 3Dmol.js, which is bundled.

What is drawn is the cell as written, with atoms on its faces on the opposite faces too. Bonds go to the nearest
neighbours: from every atom to all within ``BOND_TOLERANCE`` of its nearest, the rule of minimum distance.
"""

from __future__ import annotations

import json
from functools import cache
from html import escape
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.elements import SYMBOLS
from crysmm.graphs.neighbors import find_edges

BOND_TOLERANCE = 1.15  # times the distance of an atom's nearest neighbour
ON_A_FACE = 1e-3  # fractional; an atom so near to a face of the cell lies on it
MOST_ATOMS = 1000  # of a cell that is drawn; browsers turn more of them slowly
SPHERE_SCALE = 0.45  # of the covalent radius

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>body {{ margin: 0; font: 14px system-ui, sans-serif; color: #727d8b; }}</style>
</head>
<body>
{element}
{scripts}
</body>
</html>
"""


def structure_view(crystal: Crystal, height: int = 360) -> str:
    """A whole HTML document with one structure, for a file or the ``srcdoc`` of an iframe; nothing is fetched.

    Args:
        crystal: the structure.
        height: of the picture in pixels; the legend of elements below adds some 30.

    Raises:
        StructureError: atoms that no neighbours can be found for (see :func:`find_edges`).
    """
    element = structure_element(crystal, height)
    return PAGE.format(title=escape(crystal.formula), element=element, scripts=structure_scripts())


@cache
def structure_scripts() -> str:
    """Script tags that draw every :func:`structure_element` of a page as it comes into view; needed once a page."""
    static = files("crysmm.report") / "static"
    library, drawing = ((static / name).read_text("utf-8") for name in ("3Dmol-min.js", "structure.js"))
    licence = (static / "3Dmol-LICENSE.txt").read_text("utf-8")
    return f"<script>/*\n{licence}*/\n{library}</script>\n<script>{drawing}</script>"


def structure_element(crystal: Crystal, height: int = 360) -> str:
    """The place of a structure in a page that has the :func:`structure_scripts`, with its legend of elements.

    Args:
        crystal: the structure.
        height: of the picture in pixels.

    Raises:
        StructureError: atoms that no neighbours can be found for (see :func:`find_edges`).
    """
    if len(crystal) > MOST_ATOMS:
        return f"<p>The cell has {len(crystal):,} atoms, more than the {MOST_ATOMS:,} that are drawn.</p>"
    label = f"{crystal.formula}, unit cell of {len(crystal)} atoms; drag or use the arrow keys to turn it"
    drawing = escape(json.dumps(structure_drawing(crystal), separators=(",", ":")))
    return (
        f'<div class="structure" role="img" tabindex="0" aria-label="{escape(label)}" data-structure="{drawing}"'
        f' style="position:relative;height:{height}px"></div>\n{_legend(crystal)}'
    )


def structure_drawing(crystal: Crystal) -> dict[str, Any]:
    """What is drawn of a structure, Angstrom, turned so that c points up and a to the right.

    Returns:
        ``atoms``: ``[x, y, z, place in elements]`` each; ``elements``: ``[symbol, color, radius]`` each; ``bonds``:
        pairs of places in ``atoms``; ``cell``: the three lattice vectors from the origin.
    """
    sites, cells = _drawn_sites(crystal)
    lattice = crystal.lattice @ _upright(crystal.lattice).T
    wrapped = crystal.frac_coords - _home_cells(crystal)
    positions = (wrapped[sites] + cells) @ lattice
    numbers, kinds = np.unique(crystal.atomic_numbers, return_inverse=True)
    return {
        "elements": [[SYMBOLS[number], _color(number), round(_radius(number), 3)] for number in numbers],
        "atoms": [[*xyz, int(kinds[site])] for xyz, site in zip(positions.round(3).tolist(), sites, strict=True)],
        "bonds": _bonds(crystal, sites, cells),
        "cell": lattice.round(3).tolist(),
    }


def _home_cells(crystal: Crystal) -> np.ndarray:
    """``[n_atoms, 3]``: the cell each atom is written in; atoms on an upper face are counted to the next."""
    return np.floor(crystal.frac_coords + ON_A_FACE).astype(int)


def _drawn_sites(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """``[n_drawn]`` the site of every atom drawn and ``[n_drawn, 3]`` its cell: the home cell, or the next one."""
    on_face = crystal.frac_coords - _home_cells(crystal) < ON_A_FACE
    drawn = [(on_face | (np.array(step) == 0)).all(axis=1) for step in product((0, 1), repeat=3)]
    steps, sites = np.nonzero(np.array(drawn))
    return sites, np.array(list(product((0, 1), repeat=3)))[steps]


def _bonds(crystal: Crystal, sites: np.ndarray, cells: np.ndarray) -> list[list[int]]:
    """Pairs of drawn atoms that are nearest neighbours, by their places among the drawn."""
    edges = find_edges(crystal, GraphSettings())
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
    nearest = np.full(len(crystal), np.inf)
    np.minimum.at(nearest, edges.destination, lengths)
    bonded = lengths <= BOND_TOLERANCE * np.maximum(nearest[edges.source], nearest[edges.destination])
    home = _home_cells(crystal)
    source, destination = edges.source[bonded], edges.destination[bonded]
    steps = edges.image[bonded] + home[destination] - home[source]
    places = {(site, *cell): place for place, (site, cell) in enumerate(zip(sites, cells.tolist(), strict=True))}
    ends: dict[int, list[tuple[int, ...]]] = {}
    for start, end, step in zip(source.tolist(), destination.tolist(), steps.tolist(), strict=True):
        ends.setdefault(start, []).append((end, *step))
    pairs = []
    for place, (site, cell) in enumerate(zip(sites.tolist(), cells.tolist(), strict=True)):
        for end, *step in ends.get(site, []):
            other = places.get((end, *(a + b for a, b in zip(cell, step, strict=True))))
            if other is not None and place < other:
                pairs.append([place, other])
    return pairs


def _upright(lattice: np.ndarray) -> np.ndarray:
    """The rotation that brings c upwards (y of the screen) and a into the plane of the screen, to the right."""
    up = lattice[2] / np.linalg.norm(lattice[2])
    right = lattice[0] - (lattice[0] @ up) * up
    right /= np.linalg.norm(right)
    return np.array([right, up, np.cross(right, up)])


def _color(number: int) -> str:
    """The color Jmol gives an element."""
    from ase.data.colors import jmol_colors

    return "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[number])


def _radius(number: int) -> float:
    from ase.data import covalent_radii

    return SPHERE_SCALE * float(covalent_radii[number])


def _legend(crystal: Crystal) -> str:
    """The elements and their colors."""
    dot = "display:inline-block;width:.8em;height:.8em;border-radius:50%;border:1px solid #8888;margin-right:.35em"
    entries = (
        f'<span style="margin:0 .6em"><span style="{dot};background:{_color(number)}"></span>{SYMBOLS[number]}</span>'
        for number in np.unique(crystal.atomic_numbers)
    )
    return f'<div class="structure-legend" style="text-align:center">{"".join(entries)}</div>'
