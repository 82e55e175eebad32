"""What is known of crystals and models as HTML; whatever comes from a file or a model folder is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from moyopy import SpaceGroupType

from crysmm.app.answer import Answer, Answers, Value, cell_parameters
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, crystal_system
from crysmm.explain.tables import CrystalExplanation
from crysmm.inference.domain import FAR
from crysmm.inference.intervals import COVERAGE
from crysmm.inference.model_card import read_card
from crysmm.inference.predictor import Predictor
from crysmm.report.html import formula_parts
from crysmm.report.structure import structure_view
from crysmm.zoo import ZOO

STATIC, EXAMPLE_FILES = (Path(__file__).parent / name for name in ("static", "examples"))
EXAMPLES = {"Quartz": "quartz.cif", "Rutile": "rutile.vasp", "Perovskite": "perovskite.vasp"}
MOST_BARS = 12  # of atoms, elements or features; the JSON file has them all
VIEW_HEIGHT = 360  # pixels
LEGEND_HEIGHT = 36
MOST_LISTED = 8  # files with a problem; the table has them all
HEADER = (
    '<header class="top"><h1>crysmm</h1><p>Properties of crystals from graph networks, computed on this machine</p>'
    "</header>"
)
TRY = '<p class="try">No file at hand? Try one of these:</p>'


def welcome() -> str:
    """What stands in the place of a result before there is one."""
    return (
        f'<div class="welcome">{(STATIC / "favicon.svg").read_text("utf-8")}<h2>Drop a crystal structure</h2>'
        "<p>A POSCAR, CIF or extended xyz file, or many. You see the crystal, the prediction with its interval, how "
        "far to trust it, and what it rests on.</p>"
        "<p>All of it is computed on this machine. Nothing is sent anywhere.</p></div>"
    )


def model_card(predictor: Predictor) -> str:
    """What a model predicts, and how good it is where that is known."""
    model = predictor.model
    unit = f" in {model.description.unit}" if model.description.unit else ""
    kind = "the class " if predictor.classes is not None else ""
    backbone = model.config.model.name.upper() if model.config.model.name != "crysxpp" else "CrysXPP"
    members = f" ({predictor.n_members} members)" if predictor.n_members > 1 else ""
    lines = [f"{backbone}{members} predicts {kind}<b>{escape(', '.join(predictor.target_names))}</b>{escape(unit)}."]
    if predictor.elements is not None:
        lines.append(f"It has seen {len(predictor.elements)} elements.")
    if model.folder.parent == ZOO:
        lines.append(f"Held out: {escape(read_card(model.folder).figure.split(';')[0])}.")
    return f'<p class="model-card">{" ".join(lines)}</p>'


def problems(answers: Answers) -> str:
    """Which files have no prediction and why; empty where all have one."""
    parts = []
    if answers.failed:
        total, failed = len(answers.results), len(answers.failed)
        heading = "Not predicted:" if total == 1 else f"{failed} of {total} files not predicted:"
        parts.append(_listed(heading, [(row.id, row.reason) for row in answers.failed], ", in the table"))
    if answers.undescribed:
        heading = "Predicted without a description, which the model reads:"
        parts.append(_listed(heading, list(answers.undescribed.items())))
    return "".join(parts)


def problem(text: str) -> str:
    """Why nothing could be done."""
    return f'<div class="notice bad"><p>{_lines(text)}</p></div>'


def summary_columns(answers: Answers) -> list[str]:
    """Columns of the table of many files."""
    columns = ["File", "Formula", "Atoms"]
    values = answers.found[0].values if answers.found else []
    for value in values:
        columns.append(value.name)
        if value.lower is not None:
            columns.append(f"{COVERAGE:.0%} interval" + (f" of {value.name}" if len(values) > 1 else ""))
    return [*columns, "Notes"]


def summary_rows(answers: Answers) -> list[list[Any]]:
    """A row a file; of one that is not predicted the reason."""
    n_columns = len(summary_columns(answers))
    return [
        _summary(result) if isinstance(result, Answer) else [result.id, *[None] * (n_columns - 2), result.reason]
        for result in answers.results
    ]


def _summary(answer: Answer) -> list[Any]:
    cells: list[Any] = [answer.id, readable_formula(answer.crystal.formula, "{}"), len(answer.crystal)]
    for value in answer.values:
        cells.append(float(f"{value.value:.4g}"))
        if value.lower is not None and value.upper is not None:
            cells.append(f"{value.lower:.4g} to {value.upper:.4g}")
    return [*cells, answer.domain]


def crystal_page(predictor: Predictor, answer: Answer, explanation: str) -> str:
    """All that is known of one crystal.

    Args:
        predictor: of the model.
        answer: about the crystal.
        explanation: of :func:`explanation_card`, or a notice in its place.
    """
    return (
        '<div class="answer">'
        f"{_structure_card(answer)}"
        f'<div class="stack">{_prediction_card(predictor, answer)}{_trust_card(answer)}{_nearest_card(answer)}</div>'
        f"{explanation}</div>"
    )


def explanation_card(quantity: str, explanation: CrystalExplanation) -> str:
    """What a prediction rests on.

    Args:
        quantity: what is explained.
        explanation: of the crystal's prediction.
    """
    total = (
        f"<p>{escape(quantity)} <b>{explanation.prediction:.4g}</b> = {explanation.baseline:.4g} for the same bonds "
        f"between atoms without features, and contributions of {explanation.contributions:.4g}.</p>"
    )
    elements = [(_counted(row["element"], row["n_atoms"]), row["contribution"]) for row in explanation.elements]
    atoms = [(f"{row['element']} {row['atom']}", row["contribution"]) for row in explanation.atoms]
    features = [(_counted(row["name"], row["n_atoms"]), row["contribution"]) for row in explanation.features]
    left = _contributions("Elements (atoms)", elements) + _contributions("Atoms, numbered from 0 as in the file", atoms)
    right = _contributions("Features (in how many atoms)", features)
    groups = f'<div class="stack">{left}</div><div class="stack">{right}</div>'
    note = '<p class="fine">What the model uses, not what causes the property. Integrated gradients.</p>'
    return _card("What it rests on", f'{total}<div class="columns">{groups}</div>{note}', "wide")


def explanation_missing(why: str) -> str:
    """Why a prediction is not explained."""
    return _card("What it rests on", f"<p>{_lines(why)}</p>", "wide")


def readable_formula(formula: str, count: str = "<sub>{}</sub>") -> str:
    """A reduced formula as chemists write it, the most electronegative element last.

    Args:
        formula: elements in any order.
        count: how a number is written; HTML by default.
    """
    return "".join(
        escape(symbol) + (count.format(number) if number else "") for symbol, number in formula_parts(formula)
    )


def space_group_name(number: int) -> str:
    """Symbol, number and crystal system of a space group, in HTML."""
    if not number:
        return "not found"
    symbol = SpaceGroupType(number).hm_short.replace(" ", "")
    symbol = re.sub(r"_(\d)", r"<sub>\1</sub>", re.sub(r"-(\d)", r'<span class="overline">\1</span>', symbol))
    return f"{symbol} ({number}), {CRYSTAL_SYSTEMS[crystal_system(number)]}"


def _structure_card(answer: Answer) -> str:
    crystal = answer.crystal
    lengths, angles = cell_parameters(crystal)
    facts = {
        "Space group": space_group_name(answer.space_group),
        "Cell": f"{len(crystal)} atom{'s' if len(crystal) > 1 else ''}, {crystal.volume:.1f} &#8491;<sup>3</sup>",
        "a, b, c": " ".join(f"{length:.3f}" for length in lengths) + " &#8491;",
        "&alpha;, &beta;, &gamma;": " ".join(f"{angle:.1f}&deg;" for angle in angles),
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    view = escape(structure_view(crystal, VIEW_HEIGHT))
    return (
        f'<section class="card structure-card"><h2>{readable_formula(crystal.formula)}</h2>'
        f'<p class="file">{escape(answer.id)}</p>'
        f'<iframe title="the crystal, to be turned" sandbox="allow-scripts" srcdoc="{view}" '
        f'style="height:{VIEW_HEIGHT + LEGEND_HEIGHT}px"></iframe><dl>{rows}</dl></section>'
    )


def _prediction_card(predictor: Predictor, answer: Answer) -> str:
    if answer.predicted_class is not None:
        probabilities = _bars([(value.name, value.value) for value in answer.values], 0.0, 1.0)
        return _card(
            "Prediction",
            f'<p class="target">{escape(predictor.target_names[0])}</p>'
            f'<p class="value">class {escape(answer.predicted_class)}</p>'
            f'<div class="bars probabilities"><h4>Probabilities</h4>{probabilities}</div>',
        )
    unit = predictor.model.description.unit or ""
    return _card("Prediction", "".join(_value(value, unit) for value in answer.values))


def _value(value: Value, unit: str) -> str:
    shown_unit = f' <span class="unit">{escape(unit)}</span>' if unit else ""
    parts = [f'<p class="target">{escape(value.name)}</p><p class="value">{value.value:.4g}{shown_unit}</p>']
    if value.spread is not None:
        parts.append(f"<p>The members of the ensemble spread by {value.spread:.2g}.</p>")
    if value.lower is not None and value.upper is not None:
        parts.append(_interval(value.lower, value.value, value.upper))
    return "".join(parts)


def _interval(lower: float, value: float, upper: float) -> str:
    """The interval in words, and drawn where it is finite."""
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return f"<p>No finite {COVERAGE:.0%} interval: too few validation crystals.</p>"
    place = 50.0 if upper <= lower else 100 * (value - lower) / (upper - lower)
    return (
        f'<div class="interval"><div class="interval-line"><i style="left:{place:.1f}%"></i></div>'
        f"<span>{lower:.4g}</span><span>{COVERAGE:.0%} interval</span><span>{upper:.4g}</span></div>"
    )


def _trust_card(answer: Answer) -> str:
    notes = [*answer.notes, *filter(None, answer.domain.split("; "))]
    parts = [f'<p class="notice warn">{escape(note)}</p>' for note in notes]
    percentile = answer.distance_percentile
    if percentile is None:
        parts.append(
            "<p>This model has no calibration: there is no interval, and no distance from the training crystals.</p>"
        )
    else:
        far = " far" if percentile >= FAR else ""
        parts.append(
            f'<div class="meter{far}"><i style="left:{percentile:.1f}%"></i></div>'
            f"<p>Farther from the training crystals than {percentile:.0f}% of the validation crystals. From {FAR:.0f}% "
            "on a crystal is called far.</p>"
        )
    return _card("How far to trust it", "".join(parts))


def _nearest_card(answer: Answer) -> str:
    if answer.nearest is None:
        return ""
    rows = "".join(
        f"<tr><td>{readable_formula(near.crystal.formula)}</td><td>{escape(near.crystal.id)}</td>"
        f"<td>{near.distance:.3g}</td></tr>"
        for near in answer.nearest
    )
    table = f"<table><thead><tr><th>Formula</th><th>Id</th><th>Distance</th></tr></thead><tbody>{rows}</tbody></table>"
    note = '<p class="fine">Of at most 1,000 that the model folder keeps, by the distance of their embeddings.</p>'
    return _card("Nearest training crystals", table + note)


def _contributions(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Contributions as bars to either side of zero, the largest first; those that are equal in the order given."""
    ordered = sorted(values, key=lambda pair: -float(f"{abs(pair[1]):.3g}"))
    shown, hidden = ordered[:MOST_BARS], len(ordered) - MOST_BARS
    sizes = [value for _, value in shown]
    more = f'<p class="fine">and {hidden} smaller ones, in the JSON file</p>' if hidden > 0 else ""
    return f'<div class="bars"><h4>{title}</h4>{_bars(shown, min([0.0, *sizes]), max([0.0, *sizes]))}{more}</div>'


def _bars(values: Sequence[tuple[str, float]], low: float, high: float) -> str:
    """Numbers as bars from zero, on a scale from ``low`` to ``high``."""
    width = (high - low) or 1.0
    return "".join(
        f'<div class="bar"><span class="name">{escape(name)}</span><span class="track">'
        f'<i class="{"rises" if value > 0 else "falls"}" style="left:{100 * (min(value, 0) - low) / width:.2f}%;'
        f'width:{100 * abs(value) / width:.2f}%"></i></span><span class="number">{value:.3g}</span></div>'
        for name, value in values
    )


def _counted(name: str, n_atoms: int) -> str:
    return f"{name} ({n_atoms})"


def _card(title: str, body: str, kind: str = "") -> str:
    return f'<section class="card {kind}"><h3>{title}</h3>{body}</section>'


def _listed(heading: str, items: Sequence[tuple[str, str]], where: str = "") -> str:
    rows = [f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in items[:MOST_LISTED]]
    if len(items) > MOST_LISTED:
        rows.append(f"<li>and {len(items) - MOST_LISTED} more{where}</li>")
    return f'<div class="notice bad"><p>{heading}</p><ul>{"".join(rows)}</ul></div>'


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
