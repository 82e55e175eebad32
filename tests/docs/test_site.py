"""The site as it is built: nothing is missing, nothing comes from a network, and the references are the code's."""

import re
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import crysmm
from crysmm.config import PretrainingConfig, TrainingConfig
from crysmm.config.loading import SECTIONS
from crysmm.zoo import shipped_names

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; a warning of MkDocs is an error."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.fixture(scope="module")
def text_of(site):
    """The words of a page of the built site."""
    return lambda name: unescape(re.sub(r"<[^>]+>", "", (site / name).read_text()))


def hook(name):
    spec = spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_fetched(site):
    fetched = {url for page in site.rglob("*.html") for url in FETCHED.findall(page.read_text())}
    styles = {file for file in site.rglob("*.css") if re.search(r"url\(['\"]?https?:|@import", file.read_text())}
    assert (fetched, styles) == (set(), set())


def test_search_needs_no_server(site):
    assert (site / "search" / "search_index.js").read_text().startswith("var __index")
    assert "assets/iframe-worker/shim.js" in (site / "index.html").read_text()


def test_equations_are_mathml(site):
    pages = [site / "systems" / f"{name}.html" for name in ("backbones", "crysxpp", "crysgnn", "crysmmnet")]
    assert all('/MathML" display="block"><m' in page.read_text() for page in pages)
    assert not [page for page in site.rglob("*.html") if "arithmatex" in page.read_text()]


def test_unknown_latex_fails_the_build():
    from mkdocs.exceptions import PluginError

    equations = hook("equations")
    assert "<mfrac>" in equations.on_page_content(r'<span class="arithmatex">\(\frac{a}{b}\)</span>')
    with pytest.raises(PluginError, match="nosuchthing"):
        equations.on_page_content(r'<span class="arithmatex">\(\nosuchthing{a}\)</span>')


def test_every_option_is_in_the_reference(text_of):
    page = text_of("reference/cli.html")
    parsers = hook("commands").parsers()
    assert len(parsers) > 10
    missing = [
        f"{name} {option}"
        for name, parser in parsers.items()
        for option in [name, *parser._option_string_actions]
        if option not in ("-h", "--help") and not re.search(rf"(?<![\w.-]){re.escape(option)}(?![\w.-])", page)
    ]
    assert not missing


def test_every_setting_is_in_the_reference(text_of):
    page = text_of("reference/configuration.html").split()
    keys = {*TrainingConfig.model_fields, *PretrainingConfig.model_fields}
    keys |= {
        f"{section}.{key}"
        for section, choices in SECTIONS.items()
        for name, settings in choices.items()
        for key in settings.model_fields
    }
    names = {f"{section}.name" for section in SECTIONS}
    assert keys - names - set(SECTIONS) <= set(page)
    assert all(name in page for choices in SECTIONS.values() for name in choices)


def test_every_public_name_is_in_the_reference(text_of):
    page = text_of("reference/python.html")
    assert all(re.search(rf"^ *{name}\b", page, re.MULTILINE) for name in crysmm.__all__)
    assert "Predictor.assess" in page


def test_shipped_models_are_listed(text_of):
    assert all(name in text_of("guide/zoo.html") for name in shipped_names())


def test_readme_leads_to_pages_that_are_there():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text())
    assert links
    assert all((ROOT / link).exists() for link in links if not link.startswith("http"))
