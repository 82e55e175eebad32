"""HTML of the app: cards about crystals and models; all text from files and model folders is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from crysmm.app.answer import Answer, Answers
from crysmm.crystals.crystal import cell_parameters
from crysmm.data.units import after_name, after_number, named
from crysmm.errors import count
from crysmm.explain.tables import CrystalExplanation
from crysmm.inference import COVERAGE
from crysmm.inference.domain import FAR
from crysmm.inference.model_card import read_card
from crysmm.inference.predictor import Predictor
from crysmm.report.html import formula_parts, space_group_name
from crysmm.report.structure import structure_view
from crysmm.zoo import ZOO

STATIC, EXAMPLE_FILES = (Path(__file__).parent / name for name in ("static", "examples"))
EXAMPLES = {"Quartz": "quartz.cif", "Rutile": "rutile.vasp", "Perovskite": "perovskite.vasp"}
MAX_BARS = 12  # bars of atoms, elements or features; the JSON file lists all
MAX_TARGETS = 3  # columns of the nearest training crystals
MAX_LISTED = 8  # listed files with a problem; the table lists all
VIEW_HEIGHT = 360  # pixels
LEGEND_HEIGHT = 36
HEADER = (
    '<header class="top"><h1>crysmm</h1><p>Predict properties of crystals with graph networks, on your own machine</p>'
    "</header>"
)
EXPLANATION = "What it is based on"
NAMES = {"crysxpp": "CrysXPP", "gaussian-process": "Gaussian process"}
TRY = '<p class="try">No file at hand? Try an example:</p>'


def welcome() -> str:
    """Return the text that is shown before there is a result."""
    return (
        f'<div class="welcome">{(STATIC / "favicon.svg").read_text("utf-8")}<h2>Drop a crystal structure</h2>'
        "<p>One or more files: POSCAR, CIF, extended xyz, PDB, pymatgen JSON, vasprun.xml or OUTCAR. You get the "
        "crystal in 3D, the prediction with its interval, how far you can trust it, and what it is based on.</p>"
        "<p>Everything runs on this machine. Nothing is sent anywhere.</p></div>"
    )


def model_card(predictor: Predictor) -> str:
    """Return a summary of each model: backbone, target, elements, and the error of a shipped model."""
    kind = "the class " if predictor.classes is not None else ""
    cards = []
    for part in predictor.models:
        model, description = part.members[0], part.description
        network = model.config.network
        backbone = NAMES.get(network, network.upper())
        members = f" ({len(part.members)} members)" if len(part.members) > 1 else ""
        targets = f"<b>{escape(', '.join(named(description.target_names, description.units)))}</b>"
        lines = [f"{backbone}{members} predicts {kind}{targets}."]
        if description.elements is not None:
            lines.append(f"Its training crystals contain {len(description.elements)} elements.")
        if model.folder.parent == ZOO:
            lines.append(f"Held out: {escape(read_card(model.folder).figure.split(';')[0])}.")
        cards.append(f'<p class="model-card">{" ".join(lines)}</p>')
    return "".join(cards)


def problems(answers: Answers) -> str:
    """List the files without a prediction or a description, with the reasons; empty if there are none."""

    def notice(heading: str, items: Sequence[tuple[str, str]], where: str = "") -> str:
        rows = [f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in items[:MAX_LISTED]]
        if len(items) > MAX_LISTED:
            rows.append(f"<li>and {len(items) - MAX_LISTED} more{where}</li>")
        return f'<div class="notice bad"><p>{heading}</p><ul>{"".join(rows)}</ul></div>'

    parts = []
    if answers.failed:
        total, failed = len(answers.results), len(answers.failed)
        heading = "Not predicted:" if total == 1 else f"{failed} of {total} files not predicted:"
        parts.append(notice(heading, [(row.id, row.reason) for row in answers.failed], " (see the table)"))
    if answers.undescribed:
        heading = "Predicted without a description, although the model reads descriptions:"
        parts.append(notice(heading, list(answers.undescribed.items())))
    return "".join(parts)


def problem(text: str) -> str:
    """Return an error message that is shown instead of a result."""
    lines = escape(text).replace("\n", "<br>")
    return f'<div class="notice bad"><p>{lines}</p></div>'


def summary_columns(answers: Answers) -> list[str]:
    """Return the columns of the table that is shown for several files."""
    columns = ["File", "Formula", "Atoms"]
    # All answers are by one model and therefore have the same values.
    values = answers.found[0].values if answers.found else []
    for value in values:
        columns.append(f"{value.name}{after_name(value.unit)}" if value.unit else value.name)
        if value.lower is not None:
            columns.append(f"{COVERAGE:.0%} interval" + (f" of {value.name}" if len(values) > 1 else ""))
    return [*columns, "Notes"]


def summary_rows(answers: Answers) -> list[list[Any]]:
    """Return a row per file; files without a prediction have the reason in the last column."""
    n_columns = len(summary_columns(answers))
    rows = []
    for result in answers.results:
        if not isinstance(result, Answer):
            rows.append([result.id, *[None] * (n_columns - 2), result.reason])
            continue
        cells: list[Any] = [result.id, readable_formula(result.crystal.formula, "{}"), len(result.crystal)]
        for value in result.values:
            cells.append(float(f"{value.value:.4g}"))  # a number, so that the column sorts as numbers
            if value.lower is not None and value.upper is not None:
                cells.append(f"{value.lower:.4g} to {value.upper:.4g}" if value.is_bounded else "-")
        rows.append([*cells, result.domain])
    return rows


def crystal_page(predictor: Predictor, answer: Answer, explanation: str) -> str:
    """Return all cards about one crystal.

    Args:
        predictor: Loaded model.
        answer: Answer for the crystal.
        explanation: Card from :func:`explanation_card` or :func:`explanation_missing`.
    """
    stack = _prediction_card(predictor, answer) + _trust_card(answer) + _nearest_card(predictor, answer)
    return f'<div class="answer">{_structure_card(answer)}<div class="stack">{stack}</div>{explanation}</div>'


def explanation_card(quantity: str, explanation: CrystalExplanation) -> str:
    """Return the card with the contributions to a prediction.

    Args:
        quantity: Name of the explained quantity.
        explanation: Explanation of the prediction.
    """

    def chart(title: str, values: Sequence[tuple[str, float]]) -> str:
        # Equivalent atoms differ by rounding errors: three digits keep them in the order of the file.
        ordered = sorted(values, key=lambda pair: -float(f"{abs(pair[1]):.3g}"))
        shown, n_hidden = ordered[:MAX_BARS], len(ordered) - MAX_BARS
        sizes = [value for _, value in shown]
        more = f'<p class="fine">and {n_hidden} smaller ones, see the JSON file</p>' if n_hidden > 0 else ""
        return f'<div class="bars"><h4>{title}</h4>{_bars(shown, min([0.0, *sizes]), max([0.0, *sizes]))}{more}</div>'

    total = (
        f"<p>{escape(quantity)} <b>{explanation.prediction:.4g}</b> = {explanation.baseline:.4g} for the same bonds "
        f"between atoms without features + contributions of {explanation.contributions:.4g}.</p>"
    )
    elements = [(f"{row['element']} ({row['n_atoms']})", row["contribution"]) for row in explanation.elements]
    atoms = [(f"{row['element']} {row['atom']}", row["contribution"]) for row in explanation.atoms]
    features = [(f"{row['name']} ({row['n_atoms']})", row["contribution"]) for row in explanation.features]
    left = chart("Elements (number of atoms)", elements) + chart("Atoms, numbered from 0 as in the file", atoms)
    right = chart("Features (number of atoms)", features)
    groups = f'<div class="stack">{left}</div><div class="stack">{right}</div>'
    note = '<p class="fine">Shows what the model uses, not what causes the property. Method: integrated gradients.</p>'
    return _card(EXPLANATION, f'{total}<div class="columns">{groups}</div>{note}', "wide")


def explanation_missing(why: str) -> str:
    """Return the card with the reason for a missing explanation."""
    lines = escape(why).replace("\n", "<br>")
    return _card(EXPLANATION, f"<p>{lines}</p>", "wide")


def readable_formula(formula: str, count: str = "<sub>{}</sub>") -> str:
    """Return a reduced formula with the most electronegative element last.

    Args:
        formula: Reduced formula with the elements in any order.
        count: Format of the counts; HTML by default.
    """
    return "".join(
        escape(symbol) + (count.format(number) if number else "") for symbol, number in formula_parts(formula)
    )


def _structure_card(answer: Answer) -> str:
    """Return the card with the drawing, the space group and the cell."""
    crystal = answer.crystal
    lengths, angles = cell_parameters(crystal.lattice)
    facts = {
        "Space group": space_group_name(answer.space_group),
        "Cell": f"{count(len(crystal), 'atom')}, {crystal.volume:.1f} &#8491;<sup>3</sup>",
        "a, b, c": " ".join(f"{length:.3f}" for length in lengths) + " &#8491;",
        "&alpha;, &beta;, &gamma;": " ".join(f"{angle:.1f}&deg;" for angle in angles),
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    view = escape(structure_view(crystal, VIEW_HEIGHT))
    return (
        f'<section class="card structure-card"><h2>{readable_formula(crystal.formula)}</h2>'
        f'<p class="file">{escape(answer.id)}</p>'
        f'<iframe title="interactive drawing of the crystal" sandbox="allow-scripts" srcdoc="{view}" '
        f'style="height:{VIEW_HEIGHT + LEGEND_HEIGHT}px"></iframe><dl>{rows}</dl></section>'
    )


def _prediction_card(predictor: Predictor, answer: Answer) -> str:
    """Return the card with the predicted values and intervals, or the probabilities of the classes."""
    if answer.predicted_class is not None:
        probabilities = _bars([(value.name, value.value) for value in answer.values], 0.0, 1.0)
        return _card(
            "Prediction",
            f'<p class="target">{escape(predictor.target_names[0])}</p>'
            f'<p class="value">class {escape(answer.predicted_class)}</p>'
            f'<div class="bars probabilities"><h4>Probabilities</h4>{probabilities}</div>',
        )
    parts = []
    for value in answer.values:
        unit = escape(after_number(value.unit))
        shown_unit = f' <span class="unit">{unit}</span>' if unit else ""
        parts.append(f'<p class="target">{escape(value.name)}</p><p class="value">{value.value:.4g}{shown_unit}</p>')
        if value.spread is not None:
            parts.append(f"<p>Standard deviation of the ensemble members: {value.spread:.2g}{unit}.</p>")
        lower, upper = value.lower, value.upper
        if lower is None or upper is None:
            continue
        if not value.is_bounded:
            parts.append(f"<p>No finite {COVERAGE:.0%} interval: too few validation crystals.</p>")
            continue
        position = 50.0 if upper <= lower else 100 * (value.value - lower) / (upper - lower)
        parts.append(
            f'<div class="interval"><div class="interval-line"><i style="left:{position:.1f}%"></i></div>'
            f"<span>{lower:.4g}</span><span>{COVERAGE:.0%} interval</span><span>{upper:.4g}{unit}</span></div>"
        )
    return _card("Prediction", "".join(parts))


def _trust_card(answer: Answer) -> str:
    """Return the card with the distance from the training crystals, and with warnings."""
    notes = [*answer.notes, *filter(None, answer.domain.split("; "))]
    parts = [f'<p class="notice warn">{escape(note)}</p>' for note in notes]
    percentile = answer.distance_percentile
    if percentile is None:
        parts.append(
            "<p>This model has no calibration, so there is no interval and no distance from the training crystals.</p>"
        )
    else:
        far = " far" if percentile >= FAR else ""
        parts.append(
            f'<div class="meter{far}"><i style="left:{percentile:.1f}%"></i></div>'
            f"<p>Farther from the training crystals than {percentile:.0f}% of the validation crystals. From {FAR:.0f}% "
            "on, a crystal counts as far.</p>"
        )
    return _card("How far you can trust it", "".join(parts))


def _nearest_card(predictor: Predictor, answer: Answer) -> str:
    """Return the card with the nearest training crystals and their targets; empty for models without calibration."""
    if answer.nearest is None:
        return ""
    names = named(predictor.target_names, predictor.units)[:MAX_TARGETS]
    header = ["Formula", "ID", *(names if all(near.crystal.targets for near in answer.nearest) else []), "Distance"]
    rows = []
    for near in answer.nearest:
        targets = ["-" if value is None else f"{value:.4g}" for value in near.crystal.targets[:MAX_TARGETS]]
        identifier = escape(near.crystal.id)
        values = "".join(f"<td>{cell}</td>" for cell in [*targets, f"{near.distance:.3g}"])
        rows.append(
            f"<tr><td>{readable_formula(near.crystal.formula)}</td>"
            f'<td class="id" title="{identifier}">{identifier}</td>{values}</tr>'
        )
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    note = '<p class="fine">By the distance of embeddings, among up to 1,000 training crystals in the model folder.</p>'
    return _card("Nearest training crystals", table + note)


def _bars(values: Sequence[tuple[str, float]], low: float, high: float) -> str:
    """Return bars from zero to each value, on a scale from ``low`` to ``high``."""
    # Positions and widths are percentages of the track; if all values are 0, no bar is visible.
    width = (high - low) or 1.0
    return "".join(
        f'<div class="bar"><span class="name">{escape(name)}</span><span class="track">'
        f'<i class="{"rises" if value > 0 else "falls"}" style="left:{100 * (min(value, 0) - low) / width:.2f}%;'
        f'width:{100 * abs(value) / width:.2f}%"></i></span><span class="number">{value:.3g}</span></div>'
        for name, value in values
    )


def _card(title: str, body: str, kind: str = "") -> str:
    """Return a card; title and body are HTML, ``kind`` is an additional CSS class."""
    return f'<section class="card {kind}"><h3>{title}</h3>{body}</section>'
