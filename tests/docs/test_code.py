"""All code on the pages: commands are run or parsed, Python is executed, options in the text exist."""

import argparse
import json
import re
import shlex
import subprocess
from importlib import import_module
from itertools import pairwise

import pytest

from crysmm.cli import train_folder
from crysmm.cli.main import COMMANDS, main, make_parser
from crysmm.cli.options import config_from
from crysmm.config import PretrainingConfig, TrainingConfig

LANGUAGES = {"bash", "python", "json", "diff", "text"}
RUN = {
    "README.md", "start.md", "input.md", "training.md", "predicting.md", "pretraining.md", "explaining.md", "zoo.md",
    "crysgnn.md", "crysxpp.md",
}  # fmt: skip
"""Pages whose commands are run, on a few crystals and for one epoch; those of the others are parsed."""
OF_OTHERS = {
    "pip": "installs packages, which .ci/run does in fresh environments",
    "python3": "makes an environment, as .ci/run does",
    "source": "enters an environment, as .ci/run does",
    "pytest": "is what runs this",
    "torchrun": "starts processes; tests/training/test_distributed.py trains in several",
}
"""Programs that are neither run nor parsed here, and why."""
SHELL = {"ls", "head"}
PARSED_ONLY = {
    "app": "serves until it is stopped; tests/app drives it",
    "doctor": "is run by tests/cli/test_doctor.py, and takes seconds",
}
OTHERS_OPTIONS = {"--lr", "--optim", "--task", "--model_name"}
"""Options of other packages that the page on coming from them names; those with a hyphen are others' by that."""
ANOTHER_TEST = {"adding_a_backbone.md": "test_adding_a_backbone.py"}
"""Pages whose code is run elsewhere."""


class Parsed(Exception):  # noqa: N818
    """A script has got past its command line."""


def commands_of(text: str) -> list[list[str]]:
    """The commands of a block, word by word."""
    lines = text.replace("\\\n", " ").splitlines()
    words = (shlex.split(part, comments=True) for line in lines for part in line.split("&&"))
    return [command for command in words if command]


def parser_of(command: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of a command of this package, and the words for it."""
    if command[:3] == ["python", "-m", "crysmm"]:
        command = ["crysmm", *command[3:]]
    if command[0] == train_folder.NAME:
        return make_parser(train_folder, train_folder.NAME, train_folder.SUMMARY), command[1:]
    assert command[1] in COMMANDS, f"there is no crysmm {command[1]}"
    name = command[1]
    return make_parser(import_module(f"crysmm.cli.{name}"), f"crysmm {name}", COMMANDS[name]), command[2:]


def parse_command(command: list[str]) -> None:
    """Refuse options that are not there and settings that are not valid."""
    parser, words = parser_of(command)
    arguments, unknown = parser.parse_known_args(words)
    assert not unknown, f"unknown: {unknown}"
    if "model.name" in {action.dest for action in parser._actions}:
        kind = PretrainingConfig if command[1] == "pretrain" else TrainingConfig
        config_from(kind, arguments)


def parse_script(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line of a script of this repository, by its own parser."""
    is_module = command[1] == "-m"
    name, *words = command[2:] if is_module else command[1:]
    original = argparse.ArgumentParser.parse_args

    def parse(parser, *_):
        original(parser, words)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    module = import_module(name if is_module else name.removesuffix(".py").replace("/", "."))
    with pytest.raises(Parsed):
        module.main()


def run_command(command: list[str]) -> None:
    """Run a command of this package for one epoch, or on a few of the crystals where each takes long."""
    words = command[1:]
    if words[0] in ("explain", "describe") and "--root_dir" in words:
        words += ["--limit", "6"]
    if words[0] in ("train", "pretrain"):
        if "--epochs" in words:
            place = words.index("--epochs")
            del words[place : place + 2]
        words += ["--epochs", "1", *([] if "--resume" in words else ["--overwrite"])]  # pages name folders anew
    assert main(words) == 0


def test_every_block_says_its_language(blocks):
    assert {block.language for block in blocks} <= LANGUAGES


def is_folder(block) -> bool:
    """Whether a block shows what is in a folder."""
    return block.text.splitlines()[0].endswith("/")


def test_bash(page, blocks, at_home, monkeypatch, capsys):
    """What a page shows of a command's output is what it prints, but for numbers and what comes after them."""
    if page.name in ANOTHER_TEST:
        pytest.skip(f"run by {ANOTHER_TEST[page.name]}")
    for before, block in pairwise([None, *blocks]):
        if (
            before
            and (before.language, block.language) == ("bash", "text")
            and page.name in RUN
            and not is_folder(block)
        ):
            printed = capsys.readouterr().out
            for line in block.text.splitlines():
                start = re.split(r"\d", line)[0]
                assert line == "..." or start in printed, line
        for command in commands_of(block.text) if block.language == "bash" else ():
            program = command[0]
            if program in OF_OTHERS:
                continue
            if program in SHELL:
                assert page.name in RUN, f"{program} is run on pages that are run only"
                subprocess.run(command, check=True, capture_output=True)  # the page shows none of it
            elif program == "crysmm" and page.name in RUN and command[1] not in PARSED_ONLY:
                run_command(command)
            elif program == "python" and command[:3] != ["python", "-m", "crysmm"]:
                with monkeypatch.context() as patch:
                    parse_script(command, patch)
            else:
                parse_command(command)


def test_python(page, blocks, at_home):
    if page.name in ANOTHER_TEST:
        pytest.skip(f"executed by {ANOTHER_TEST[page.name]}")
    names: dict = {}
    for block in blocks:
        if block.language == "python":
            code = re.sub(r"\bepochs=\d+", "epochs=1", block.text)
            exec(compile(code, str(page), "exec"), names)


def test_json(page, blocks):
    for block in blocks:
        if block.language == "json":
            content = json.loads(block.text)
            assert page.name != "configuration.md" or TrainingConfig(**content)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return set(parser._option_string_actions)


ALL_OPTIONS = set().union(
    *(options_of(parser_of(["crysmm", name])[0]) for name in COMMANDS), options_of(parser_of([train_folder.NAME])[0])
)


def test_options_in_the_text(page):
    """What stands between backticks: an option must be one of some command, or of the command it follows."""
    if page.name in ANOTHER_TEST:
        pytest.skip("names options of the backbone it adds")
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", text):
        words = span.split()
        options = {word.split("=")[0].rstrip(":") for word in words if word.startswith("--")}
        options = {option for option in options if not set("-…") & set(option[2:])} - OTHERS_OPTIONS
        if words[0] == "crysmm" and len(words) > 1 and words[1] in COMMANDS:
            assert options <= options_of(parser_of(words)[0]), span
        elif words[0].startswith("--"):
            assert options <= ALL_OPTIONS, span
