"""``crysmm zoo``: list the models that come with the package, or those of a group, or print the card of one."""

import argparse

from crysmm.errors import InputError

USE = (
    "These names can be given instead of a model folder: crysmm predict --model NAME, crysmm train --init_from NAME,\n"
    "crysmm train --head distilled --head.teacher NAME. crysmm zoo NAME prints the card of a model. jarvis is short\n"
    "for all models whose names begin with jarvis-: crysmm predict --model jarvis; crysmm zoo jarvis lists them."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of a model or a group."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="Print the card of this model, or list this group; by default list all."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the list, that of a group, or one card.

    Raises:
        InputError: No model of that name is shipped.
        ModelFolderError: A shipped model is incomplete.
    """
    from crysmm import zoo
    from crysmm.inference.model_card import CARD_FILE, MARK

    names = zoo.shipped_names()
    if arguments.name is None:
        print("\n\n".join([*map(_entry, names), USE]) if names else "This package ships no models.")
        return 0
    if members := zoo.group_members(arguments.name):
        print("\n\n".join(map(_entry, members)))
        return 0
    if arguments.name not in names:
        raise InputError(
            f"{arguments.name}: no shipped model has this name; the shipped models are {', '.join(names) or 'none'}"
        )
    text = (zoo.ZOO / arguments.name / CARD_FILE).read_text(encoding="utf-8")
    print(text.replace(MARK, "").rstrip())
    return 0


def _entry(name: str) -> str:
    """Describe a model, its size and its held-out metric in a few lines."""
    from crysmm import zoo
    from crysmm.data.units import named
    from crysmm.inference.model_card import read_card
    from crysmm.inference.model_files import WEIGHTS_FILE
    from crysmm.inference.model_folder import EncoderDescription, ModelDescription, read_description

    folder = zoo.ZOO / name
    description, card = read_description(folder), read_card(folder)
    model = description.config.model.name
    if isinstance(description, ModelDescription):
        kind = f"{model} that predicts {', '.join(named(description.target_names, description.units))}"
    else:
        assert isinstance(description, EncoderDescription)
        kind = f"encoder {model}, pre-trained by {description.config.method.name}"
    assert description.elements is not None  # only converted models lack them, and none is shipped
    size = (folder / WEIGHTS_FILE).stat().st_size / 1e6
    return "\n  ".join(
        [name, card.summary, f"{kind}; {len(description.elements)} elements, {size:.2f} MB", f"held out: {card.figure}"]
    )
