import pytest

from crysmm.errors import ModelFolderError
from crysmm.inference.model_card import SECTIONS, Card, read_card

COMMAND = "```\n# a comment\ncrysmm train\n```"


@pytest.fixture
def card():
    sections = dict.fromkeys(SECTIONS, "text") | {"Command": COMMAND, "Held-out metrics": "- MAE 1 eV\n- RMSE 2 eV"}
    return Card("one", "What it is.", sections)


def test_a_card_is_read_as_it_was_written(card, tmp_path):
    (tmp_path / "README.md").write_text(card.text())
    assert read_card(tmp_path) == card
    assert card.figure == "MAE 1 eV"


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_that_is_missing_or_empty_is_named(card, tmp_path, heading):
    for sections in (
        {name: text for name, text in card.sections.items() if name != heading}, {**card.sections, heading: ""}
    ):  # fmt: skip
        (tmp_path / "README.md").write_text(Card("one", "What it is.", sections).text())
        with pytest.raises(ModelFolderError, match=f"README.md has nothing under {heading};"):
            read_card(tmp_path)


@pytest.mark.parametrize("top", ["What it is.", "# one"])
def test_a_card_begins_with_a_name_and_a_line(card, tmp_path, top):
    text = card.text().replace("# one\n\nWhat it is.", top)
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ModelFolderError, match="no name and line"):
        read_card(tmp_path)


def test_no_card(tmp_path):
    with pytest.raises(ModelFolderError, match=r"README.md cannot be read: No such file"):
        read_card(tmp_path)
