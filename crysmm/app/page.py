"""The page: what is put in on one side, what is known of it on the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.utils import get_upload_folder

from crysmm.app.answer import LARGEST_FILE, Answer, Answers, Models, answer, explain
from crysmm.app.cards import (
    EXAMPLE_FILES,
    EXAMPLES,
    HEADER,
    STATIC,
    TRY,
    crystal_page,
    explanation_card,
    explanation_missing,
    model_card,
    problem,
    problems,
    summary_columns,
    summary_rows,
    welcome,
)
from crysmm.errors import CrysmmError
from crysmm.explain.tables import CrystalExplanation
from crysmm.inference.predictor import Predictor

LARGEST_REQUEST = 5 * LARGEST_FILE  # bytes; files with a larger one among them are not even sent
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
FIXED_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

Updates = dict[Any, Any]  # new values by component


def mount_page(app: FastAPI, models: Models) -> FastAPI:
    """Let an app answer with the page; only what the page has been sent or has made can be fetched from it."""
    page = Page(models).blocks
    page.has_launched = True  # or gradio takes any file of this machine for one that it was sent
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path="",
        server_name="127.0.0.1",
        allowed_paths=[],
        max_file_size=LARGEST_REQUEST,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=FIXED_FONTS),
        css_paths=STATIC / "page.css",
        favicon_path=str(STATIC / "favicon.svg"),
    )


class Page:
    """The components of the page and what happens with them.

    Args:
        models: to choose among.

    Attributes:
        blocks: the page.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        first = models.names[0]
        with gr.Blocks(title="crysmm", analytics_enabled=False) as self.blocks:
            gr.HTML(HEADER)
            self._answers = gr.State()
            with gr.Row(equal_height=False):
                with gr.Column(scale=1, min_width=300):
                    self._model = gr.Dropdown(models.names, value=first, label="Model", filterable=False)
                    self._model_card = gr.HTML(model_card(models[first]))
                    self._files = gr.File(label="Structures", file_count="multiple", height=200)
                    gr.HTML(TRY)
                    with gr.Row(elem_classes="examples"):
                        buttons = {name: gr.Button(title, size="sm", min_width=80) for title, name in EXAMPLES.items()}
                with gr.Column(scale=3, min_width=320):
                    self._problems = gr.HTML(visible=False)
                    self._table = gr.Dataframe(
                        visible=False,
                        interactive=False,
                        type="array",
                        max_height=360,
                        label="Click a row to see the crystal",
                        elem_classes="summary",
                    )
                    self._result = gr.HTML(welcome())
                    with gr.Row(visible=False, elem_classes="downloads") as self._downloads:
                        self._csv = gr.DownloadButton("Table (CSV)", size="sm")
                        self._json = gr.DownloadButton("Everything (JSON)", size="sm")
            self._connect(buttons)

    def _connect(self, buttons: dict[str, gr.Button]) -> None:
        """Say what follows from what."""
        asked = [self._files, self._model]
        changed = [
            self._model_card, self._problems, self._table, self._result, self._downloads, self._csv, self._json,
            self._answers,
        ]  # fmt: skip
        options: dict[str, Any] = {"api_visibility": "private", "show_progress_on": self._result}
        gr.on([self._files.change, self._model.change], self._ask, asked, changed, **options)
        self._table.select(self._choose, self._answers, self._result, **options)
        for name, button in buttons.items():
            button.click(_example(name), None, self._files, **options)

    def _ask(self, paths: list[str] | None, name: str) -> Updates:
        """Everything anew, after files or model have changed."""
        try:
            predictor = self._models[name]
            answers = answer(predictor, name, [Path(path) for path in paths or []])
        except CrysmmError as error:
            return self._nothing() | {self._problems: gr.update(value=problem(str(error)), visible=True)}
        of_files = problems(answers)
        updates = self._nothing() | {
            self._model_card: model_card(predictor),
            self._problems: gr.update(value=of_files, visible=bool(of_files)),
            self._answers: answers,
        }
        if len(answers.results) > 1:
            table = {"data": summary_rows(answers), "headers": summary_columns(answers)}
            updates[self._table] = gr.update(value=table, visible=True)
        return updates | (self._found(predictor, answers) if answers.found else {})

    def _found(self, predictor: Predictor, answers: Answers) -> Updates:
        """The first of the crystals, and files with all that is known."""
        page, explanation = _crystal_page(predictor, answers.found[0])
        explanation = explanation if len(answers.found) == 1 else None
        table, everything = _written(
            {"predictions.csv": answers.table(), "predictions.json": answers.json(explanation)}
        )
        return {
            self._result: page,
            self._downloads: gr.update(visible=True),
            self._csv: gr.update(value=table),
            self._json: gr.update(value=everything),
        }

    def _nothing(self) -> Updates:
        """A page without a result."""
        return {
            self._problems: gr.update(value="", visible=False),
            self._table: gr.update(visible=False),
            self._result: welcome(),
            self._downloads: gr.update(visible=False),
            self._answers: None,
        }

    def _choose(self, answers: Answers, event: gr.SelectData) -> Any:
        """The crystal of a row of the table, found by its name, as the table may have been sorted."""
        chosen = [found for found in answers.found if found.id == event.row_value[0]]
        return _crystal_page(self._models[answers.model], chosen[0])[0] if chosen else gr.skip()


def _crystal_page(predictor: Predictor, found: Answer) -> tuple[str, CrystalExplanation | None]:
    """What is shown of a crystal, and its explanation if there is one."""
    try:
        quantity, explanation = explain(predictor, found)
    except CrysmmError as error:
        return crystal_page(predictor, found, explanation_missing(str(error))), None
    return crystal_page(predictor, found, explanation_card(quantity, explanation)), explanation


def _example(name: str) -> Callable[[], list[str]]:
    """A function that gives an example crystal, as if it had been uploaded."""
    return lambda: _written({name: (EXAMPLE_FILES / name).read_text("utf-8")})


def _written(contents: dict[str, str]) -> list[str]:
    """Paths of files with these contents by name, in the folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    return [str(folder / name) for name in contents]
