"""The card of a shipped model, its README.md: one line that says what it is, then sections that every card has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from crysmm.errors import ModelFolderError

CARD_FILE = "README.md"
SECTIONS = ("Data", "Licence and citation", "Command", "Held-out figures", "Limits")


@dataclass(frozen=True)
class Card:
    """What a card says.

    Args:
        name: of the model.
        summary: one line.
        sections: text by heading, all of ``SECTIONS``; the first line of the held-out figures is the one to quote.
    """

    name: str
    summary: str
    sections: dict[str, str]

    def text(self) -> str:
        """The card as Markdown, which :func:`read_card` reads back."""
        sections = [f"## {heading}\n\n{text}" for heading, text in self.sections.items()]
        return "\n\n".join([f"# {self.name}", self.summary, *sections]) + "\n"

    @property
    def figure(self) -> str:
        """The held-out figure to quote."""
        return self.sections["Held-out figures"].splitlines()[0].removeprefix("- ")


def read_card(folder: Path) -> Card:
    """The card of a model folder.

    Raises:
        ModelFolderError: there is none, or a part of it is missing.
    """
    path = folder / CARD_FILE
    try:
        top, *rest = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error.strerror}; a shipped model has a card") from error
    title, _, summary = top.partition("\n")
    sections = {heading.strip(): text.strip() for heading, _, text in (part.partition("\n") for part in rest)}
    missing = [heading for heading in SECTIONS if not sections.get(heading)]
    if not title.startswith("# ") or not summary.strip() or missing:
        what = f"nothing under {', '.join(missing)}" if missing else "no name and line that says what the model is"
        raise ModelFolderError(f"{path} has {what}; expected '# NAME', a line, and ## {', ## '.join(SECTIONS)}")
    return Card(title.removeprefix("# ").strip(), summary.strip().splitlines()[0], sections)
