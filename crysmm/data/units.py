"""Units of targets: those that the user gives, or those of columns known from JARVIS, Matbench and Materials Project.

A unit is text; ``1`` is that of a quantity without a dimension, and None is a unit that is not known. Numbers
stand before them with three digits; a time is written in one unit or two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, first_of

DIMENSIONLESS = "1"
KNOWN = {
    # JARVIS-DFT
    "formation_energy_peratom": "eV/atom", "optb88vdw_total_energy": "eV/atom", "ehull": "eV/atom",
    "optb88vdw_bandgap": "eV", "mbj_bandgap": "eV", "hse_gap": "eV", "exfoliation_energy": "meV/atom",
    "bulk_modulus_kv": "GPa", "shear_modulus_gv": "GPa", "epsx": "1", "epsy": "1", "epsz": "1", "mepsx": "1",
    "mepsy": "1", "mepsz": "1", "spillage": "1", "slme": "%", "magmom_oszicar": "Bohr magnetons",
    "magmom_outcar": "Bohr magnetons", "Tc_supercon": "K", "dfpt_piezo_max_eij": "C/m^2",
    # Matbench; its e_form is in eV/atom in one task and in eV per cell in another
    "log10(G_VRH)": "log10(GPa)", "log10(K_VRH)": "log10(GPa)", "exfoliation_en": "meV/atom", "gap pbe": "eV",
    "gap expt": "eV", "last phdos peak": "cm^-1", "n": "1",
    # Materials Project
    "formation_energy_per_atom": "eV/atom", "energy_per_atom": "eV/atom", "energy_above_hull": "eV/atom",
    "e_above_hull": "eV/atom", "efermi": "eV", "total_magnetization": "Bohr magnetons", "poisson_ratio": "1",
    "band_gap": "eV", "K_VRH": "GPa", "G_VRH": "GPa", "k_vrh": "GPa", "g_vrh": "GPa",
}  # fmt: skip
"""Units by name of the column."""


def units_of(config: TrainingConfig, names: Sequence[str]) -> tuple[str | None, ...]:
    """Return the unit of each target: as given, else as known for its name; None for classes.

    Args:
        config: Settings of the training.
        names: Names of the targets.

    Raises:
        InputError: The number of units is not that of the targets.
    """
    if config.is_classification:
        return (None,) * len(names)
    if config.unit is None:
        # A factor changes the unit to one that its name does not give.
        return tuple(KNOWN.get(name) if config.target_multiplication_factor is None else None for name in names)
    if len(config.unit) != len(names):
        raise InputError(
            f"--unit: {len(config.unit)} given ({','.join(config.unit)}); expected {len(names)}, one for each target, "
            f"in their order: {first_of(names)}"
        )
    return config.unit


def number(value: float | None) -> str:
    """Format a number with three significant digits: ``0.0214``, ``25.3``, ``1,234``; a dash for None and nan."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    size = abs(float(f"{value:.3g}"))  # rounded first, so that 999.7 is written like 1,000
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    decimals = 2 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    return f"{value:.{decimals}f}"


def duration(seconds: float) -> str:
    """Format a time: ``8.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    # Rounded before the unit is chosen, so that 119.7 s is 2 min 0 s, not 1 min 60 s.
    if round(seconds, 3) < 1:
        return f"{1000 * seconds:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def after_number(unit: str | None) -> str:
    """Return a unit as it follows a number: a space in front, nothing if there is none or it is not known."""
    return "" if unit in (None, DIMENSIONLESS) else f" {unit}"


def after_name(unit: str | None) -> str:
    """Return a unit as it follows the name of a quantity: in parentheses, nothing without a dimension."""
    return "" if unit == DIMENSIONLESS else f" ({unit or 'unit of the input'})"


def named(names: Sequence[str], units: Sequence[str | None]) -> list[str]:
    """Return the name of each target with its unit, if it is known: ``K_VRH (GPa)``."""
    pairs = zip(names, units, strict=True)
    return [name if unit is None else f"{name}{after_name(unit)}" for name, unit in pairs]
