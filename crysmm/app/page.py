"""Gradio page of the app: the model and the files on the left, the results on the right."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.utils import get_upload_folder

from crysmm.app.answer import MAX_FILE_SIZE, Answer, Answers, Models, answer, explain
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

MAX_REQUEST_SIZE = 5 * MAX_FILE_SIZE  # bytes; larger uploads are refused before they are sent
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
FIXED_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

Updates = dict[Any, Any]  # new values or properties by component


def mount_page(app: FastAPI, models: Models) -> FastAPI:
    """Add the page to a server; it serves only files that were uploaded or that it has written itself."""
    page = Page(models).blocks
    page.has_launched = True  # otherwise gradio accepts the path of any file on this machine as an upload
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        root_path="",
        server_name="127.0.0.1",
        allowed_paths=[],
        max_file_size=MAX_REQUEST_SIZE,
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
    """Components of the page and their event handlers.

    Args:
        models: Models to choose from.

    Attributes:
        blocks: Gradio application.
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
                        label="Click a row to show its crystal",
                        elem_classes="summary",
                    )
                    self._result = gr.HTML(welcome())
                    with gr.Row(visible=False, elem_classes="downloads") as self._downloads:
                        self._csv = gr.DownloadButton("Table (CSV)", size="sm")
                        self._json = gr.DownloadButton("Everything (JSON)", size="sm")
            inputs = [self._files, self._model]
            outputs = [
                self._model_card, self._problems, self._table, self._result, self._downloads, self._csv, self._json,
                self._answers,
            ]  # fmt: skip
            options: dict[str, Any] = {"api_visibility": "private", "show_progress_on": self._result}
            gr.on([self._files.change, self._model.change], self._update, inputs, outputs, **options)
            self._table.select(self._select, self._answers, self._result, **options)
            for name, button in buttons.items():
                # A copy of the example is set as if it had been uploaded, which triggers the handler above.
                copy = partial(_write_files, {name: (EXAMPLE_FILES / name).read_text("utf-8")})
                button.click(copy, None, self._files, **options)

    def _update(self, paths: list[str] | None, name: str) -> Updates:
        """Predict again after the files or the model have changed; components not listed stay unchanged."""
        empty: Updates = {
            self._problems: gr.update(value="", visible=False),
            self._table: gr.update(visible=False),
            self._result: welcome(),
            self._downloads: gr.update(visible=False),
            self._answers: None,
        }
        try:
            predictor = self._models[name]
            answers = answer(predictor, name, [Path(path) for path in paths or []])
        except CrysmmError as error:
            return empty | {self._problems: gr.update(value=problem(str(error)), visible=True)}
        notice = problems(answers)
        updates = empty | {
            self._model_card: model_card(predictor),
            self._problems: gr.update(value=notice, visible=bool(notice)),
            self._answers: answers,
        }
        if len(answers.results) > 1:
            table = {"data": summary_rows(answers), "headers": summary_columns(answers)}
            updates[self._table] = gr.update(value=table, visible=True)
        if answers.found:
            updates[self._result], explanation = _explained_page(predictor, answers.found[0])
            only = explanation if len(answers.found) == 1 else None
            files = {"predictions.csv": answers.table(), "predictions.json": answers.json(only)}
            table_path, json_path = _write_files(files)
            updates[self._downloads] = gr.update(visible=True)
            updates[self._csv], updates[self._json] = gr.update(value=table_path), gr.update(value=json_path)
        return updates

    def _select(self, answers: Answers, event: gr.SelectData) -> Any:
        """Show the crystal of a table row, found by name because the table may have been sorted."""
        # Rows of files that were not predicted have no crystal to show.
        selected = [found for found in answers.found if found.id == event.row_value[0]]
        return _explained_page(self._models[answers.model], selected[0])[0] if selected else gr.skip()


def _explained_page(predictor: Predictor, found: Answer) -> tuple[str, CrystalExplanation | None]:
    """Return the HTML for a crystal, and the explanation of its prediction if there is one."""
    # Without an explanation, for example because captum is missing, the prediction is still shown.
    try:
        quantity, explanation = explain(predictor, found)
    except CrysmmError as error:
        return crystal_page(predictor, found, explanation_missing(str(error))), None
    return crystal_page(predictor, found, explanation_card(quantity, explanation)), explanation


def _write_files(contents: dict[str, str]) -> list[str]:
    """Write files into the temporary folder that the server removes at the end, and return their paths.

    Args:
        contents: Text by file name.
    """
    # A new folder for each call, as the browser shows the name of a file to download.
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    return [str(folder / name) for name in contents]
