"""Interactive drawings of crystal structures, rendered in the browser by the bundled 3Dmol.js (Rego and Koes 2015).

A drawing shows the unit cell as written in the file, with atoms on its faces repeated on the opposite faces. Bonds
follow the rule of minimum distance: they connect an atom to all neighbors within ``BOND_TOLERANCE`` times the distance
of its nearest neighbor. Bonds that leave the cell are cut in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from itertools import product
from typing import Any

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.elements import SYMBOLS, covalent_radii
from crysmm.errors import StructureError
from crysmm.graphs.neighbors import find_edges
from crysmm.report.html import embed_scripts, static_file

BOND_TOLERANCE = 1.15  # times the distance of an atom's nearest neighbor
FACE_TOLERANCE = 1e-3  # fractional distance up to which an atom counts as lying on a face
MAX_OPEN_BONDS = 6  # per atom; the twelve of metals would hide the structure
MAX_ATOMS = 1000  # browsers rotate larger cells slowly
DISTINCT = 0.15  # difference of a color channel, of 1, from which two elements are told apart
SPHERE_SCALE = 0.45  # radius of a sphere, relative to the covalent radius

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
    """Return an HTML document with one structure, for a file or the ``srcdoc`` of an iframe; it loads nothing.

    Args:
        crystal: Crystal to draw.
        height: Height of the drawing in pixels; the legend below it adds about 30.
    """
    # The policy also covers a srcdoc: text in a formula or an id cannot run as a script.
    scripts, policy = embed_scripts(structure_sources())
    return PAGE.format(
        title=escape(crystal.formula),
        policy=policy,
        element=structure_element(crystal, height),
        scripts=scripts,
    )


@cache
def structure_sources() -> tuple[str, ...]:
    """Return the scripts that draw each :func:`structure_element` of a page when it scrolls into view."""
    library = f"/*\n{static_file('3Dmol-LICENSE.txt')}*/\n{static_file('3Dmol-min.js')}"
    return library, static_file("structure.js")


def structure_element(crystal: Crystal, height: int = 360) -> str:
    """Return the HTML element of a structure and its legend, for a page with the :func:`structure_sources`.

    Args:
        crystal: Crystal to draw.
        height: Height of the drawing in pixels.
    """
    if len(crystal) > MAX_ATOMS:
        return f"<p>The cell has {len(crystal):,} atoms and is not drawn; the limit is {MAX_ATOMS:,}.</p>"
    label = f"{crystal.formula}, unit cell of {len(crystal)} atoms; drag or use the arrow keys to rotate it"
    drawing = escape(json.dumps(structure_drawing(crystal), separators=(",", ":")))
    # Inline styles, since the element is also used outside of the report.
    dot = "display:inline-block;width:.8em;height:.8em;border-radius:50%;border:1px solid #8888;margin-right:.35em"
    numbers = np.unique(crystal.atomic_numbers).tolist()
    legend = "".join(
        f'<span style="margin:0 .6em"><span style="{dot};background:{color}"></span>{SYMBOLS[number]}</span>'
        for number, color in zip(numbers, element_colors(numbers), strict=True)
    )
    return (
        f'<div class="structure" role="img" tabindex="0" aria-label="{escape(label)}" data-structure="{drawing}"'
        f' style="position:relative;height:{height}px"></div>\n'
        f'<div class="structure-legend" style="text-align:center">{legend}</div>'
    )


def structure_drawing(crystal: Crystal) -> dict[str, Any]:
    """Return the atoms, bonds and cell to draw, in Angstrom, rotated so that c points up and a to the right.

    Returns:
        ``elements``: ``[symbol, color, radius]`` per element; ``atoms``: ``[x, y, z, element index]`` per atom;
        ``bonds``: ``[atom index, x, y, z]`` per half bond, with the coordinates of the bond's midpoint; ``cell``: the
        three lattice vectors.
    """
    # An atom is drawn in its home cell, where an atom on an upper face belongs to the next cell, and repeated along
    # exactly those vectors on whose lower face it lies. ``cells`` is 0 or 1 along each vector, [n_drawn, 3].
    home = np.floor(crystal.frac_coords + FACE_TOLERANCE).astype(int)
    on_face = crystal.frac_coords - home < FACE_TOLERANCE
    steps = np.array(list(product((0, 1), repeat=3)))
    step, sites = np.nonzero([(on_face | (one == 0)).all(axis=1) for one in steps])
    cells = steps[step]
    up = crystal.lattice[2] / np.linalg.norm(crystal.lattice[2])
    right = crystal.lattice[0] - (crystal.lattice[0] @ up) * up
    right /= np.linalg.norm(right)
    lattice = crystal.lattice @ np.array([right, up, np.cross(right, up)]).T  # x, y and z of the screen
    positions = (crystal.frac_coords[sites] - home[sites] + cells) @ lattice
    atoms, vectors = _half_bonds(crystal, home, sites, cells)
    ends = positions[atoms] + vectors @ lattice
    numbers, kinds = np.unique(crystal.atomic_numbers, return_inverse=True)
    radii = SPHERE_SCALE * covalent_radii()[numbers]
    return {
        "elements": [
            [SYMBOLS[number], color, round(float(radius), 3)]
            for number, color, radius in zip(numbers, element_colors(numbers.tolist()), radii, strict=True)
        ],
        "atoms": [[*xyz, int(kind)] for xyz, kind in zip(positions.round(3).tolist(), kinds[sites], strict=True)],
        "bonds": [[int(atom), *xyz] for atom, xyz in zip(atoms, ends.round(3).tolist(), strict=True)],
        "cell": lattice.round(3).tolist(),
    }


def _half_bonds(
    crystal: Crystal, home: np.ndarray, sites: np.ndarray, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return bonds from the drawn atoms to the midpoints between them and their nearest neighbors.

    Bonds that leave the cell are kept for atoms in its interior with at most ``MAX_OPEN_BONDS`` bonds. Crystals with
    coinciding atoms get no bonds.

    Returns:
        Indices of drawn atoms, ``[n]``, and fractional vectors from them to the midpoints, ``[n, 3]``.
    """
    try:
        edges = find_edges(crystal, GraphSettings())
    except StructureError:
        return np.empty(0, dtype=int), np.empty((0, 3))
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
    nearest = np.full(len(crystal), np.inf)
    np.minimum.at(nearest, edges.destination, lengths)
    # The larger of the distances at both ends decides, so that both ends have the bond.
    bonded = lengths <= BOND_TOLERANCE * np.maximum(nearest[edges.source], nearest[edges.destination])
    source, destination, image = edges.source[bonded], edges.destination[bonded], edges.image[bonded].astype(int)
    vectors = (crystal.frac_coords[destination] + image - crystal.frac_coords[source]) / 2

    drawn = set(zip(sites.tolist(), *cells.T.tolist(), strict=True))
    is_inside = (crystal.frac_coords - home >= FACE_TOLERANCE).all(axis=1)
    is_open = is_inside & (np.bincount(source, minlength=len(crystal)) <= MAX_OPEN_BONDS)
    atoms, edge = np.nonzero(sites[:, None] == source)
    # Edges count images from the coordinates as written, drawn atoms from their home cells.
    neighbor_cells = cells[atoms] + (image + home[destination] - home[source])[edge]
    neighbors = zip(destination[edge].tolist(), *neighbor_cells.T.tolist(), strict=True)
    is_drawn = np.array([neighbor in drawn for neighbor in neighbors], dtype=bool)
    kept = is_drawn | is_open[sites[atoms]]
    return atoms[kept], vectors[edge[kept]]


def element_colors(numbers: Sequence[int]) -> list[str]:
    """Return a color for each of several elements, such as ``#ff0d0d`` for oxygen.

    They are those of Jmol, but darker or lighter where an element before it has nearly the same, as vanadium after
    carbon.
    """
    from ase.data.colors import jmol_colors

    taken: list[np.ndarray] = []
    for number in numbers:
        own = jmol_colors[number]
        shades = [own, 0.6 * own, 0.5 + 0.5 * own, 0.35 * own]
        distances = [min((np.abs(shade - other).max() for other in taken), default=1.0) for shade in shades]
        distinct = [shade for shade, distance in zip(shades, distances, strict=True) if distance >= DISTINCT]
        taken.append(distinct[0] if distinct else shades[int(np.argmax(distances))])
    return ["#" + "".join(f"{round(255 * part):02x}" for part in color) for color in taken]
