"""Crystal structures as pictures that can be turned, drawn in the browser by 3Dmol.js, which is bundled.

What is drawn is the cell as written, with atoms on its faces on the opposite faces too. Bonds go to the nearest
neighbours: from every atom to all within ``BOND_TOLERANCE`` of its nearest, the rule of minimum distance. Those that
leave the cell end in the middle.
"""

from __future__ import annotations

import json
from functools import cache
from html import escape
from itertools import product
from typing import Any

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.elements import SYMBOLS
from crysmm.errors import StructureError
from crysmm.graphs.neighbors import find_edges
from crysmm.report.html import script_tags, security_policy, static_file

BOND_TOLERANCE = 1.15  # times the distance of an atom's nearest neighbour
ON_A_FACE = 1e-3  # fractional; an atom so near to a face of the cell lies on it
MOST_OPEN_BONDS = 6  # of an atom; metals, with twelve, would look like sea urchins
MOST_ATOMS = 1000  # of a cell that is drawn; browsers turn more of them slowly
SPHERE_SCALE = 0.45  # of the covalent radius

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
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
    """
    sources = structure_sources()
    return PAGE.format(
        title=escape(crystal.formula),
        policy=security_policy(sources),
        element=structure_element(crystal, height),
        scripts=script_tags(sources),
    )


@cache
def structure_sources() -> tuple[str, ...]:
    """The scripts that draw every :func:`structure_element` of a page as it comes into view."""
    library = f"/*\n{static_file('3Dmol-LICENSE.txt')}*/\n{static_file('3Dmol-min.js')}"
    return library, static_file("structure.js")


def structure_element(crystal: Crystal, height: int = 360) -> str:
    """The place of a structure in a page that has the :func:`structure_sources`, with its legend of elements.

    Args:
        crystal: the structure.
        height: of the picture in pixels.
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
        ``elements``: ``[symbol, color, radius]`` each; ``atoms``: ``[x, y, z, place in elements]`` each; ``bonds``:
        half of a bond each, ``[place in atoms, x, y, z]`` of its middle; ``cell``: the three lattice vectors.
    """
    sites, cells = _drawn_sites(crystal)
    lattice = crystal.lattice @ _upright(crystal.lattice).T
    positions = (crystal.frac_coords[sites] - _home_cells(crystal)[sites] + cells) @ lattice
    atoms, vectors = _half_bonds(crystal, sites, cells)
    ends = positions[atoms] + vectors @ lattice
    numbers, kinds = np.unique(crystal.atomic_numbers, return_inverse=True)
    return {
        "elements": [[SYMBOLS[number], _color(number), round(_radius(number), 3)] for number in numbers],
        "atoms": [[*xyz, int(kind)] for xyz, kind in zip(positions.round(3).tolist(), kinds[sites], strict=True)],
        "bonds": [[int(atom), *xyz] for atom, xyz in zip(atoms, ends.round(3).tolist(), strict=True)],
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


def _half_bonds(crystal: Crystal, sites: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bonds from the drawn atoms to their nearest neighbours, up to the middle; none where atoms coincide.

    Bonds that leave the cell are those of atoms within it, not on a face, that have at most ``MOST_OPEN_BONDS``.

    Returns:
        ``[n]`` places among the drawn atoms and ``[n, 3]`` fractional vectors from there.
    """
    try:
        edges = find_edges(crystal, GraphSettings())
    except StructureError:
        return np.empty(0, dtype=int), np.empty((0, 3))
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
    nearest = np.full(len(crystal), np.inf)
    np.minimum.at(nearest, edges.destination, lengths)
    bonded = lengths <= BOND_TOLERANCE * np.maximum(nearest[edges.source], nearest[edges.destination])
    source, destination, image = edges.source[bonded], edges.destination[bonded], edges.image[bonded].astype(int)
    vectors = (crystal.frac_coords[destination] + image - crystal.frac_coords[source]) / 2

    home = _home_cells(crystal)
    drawn = set(zip(sites.tolist(), *cells.T.tolist(), strict=True))
    is_within = (crystal.frac_coords - home >= ON_A_FACE).all(axis=1)
    is_open = is_within & (np.bincount(source, minlength=len(crystal)) <= MOST_OPEN_BONDS)
    atoms, edge = np.nonzero(sites[:, None] == source)
    cells_of_neighbors = cells[atoms] + (image + home[destination] - home[source])[edge]
    neighbors = zip(destination[edge].tolist(), *cells_of_neighbors.T.tolist(), strict=True)
    is_seen = np.array([neighbor in drawn for neighbor in neighbors], dtype=bool)
    kept = is_seen | is_open[sites[atoms]]
    return atoms[kept], vectors[edge[kept]]


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
