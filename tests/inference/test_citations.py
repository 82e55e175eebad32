"""What is cited, in cards and in CITATION.cff."""

from pathlib import Path

import yaml

import crysmm
from crysmm.config import PretrainingConfig, TrainingConfig
from crysmm.config.models import BACKBONES
from crysmm.inference.papers import PAPERS, papers_behind

CITATION = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text())


def name_of(author):
    return author.get("name") or f"{author['family-names']}, {author['given-names']}"


def test_citation_file_is_of_this_version():
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["version"] == crysmm.__version__
    assert CITATION["authors"] == [{"name": "The crysmm developers"}]


def test_papers_of_cards_are_those_of_the_citation_file():
    references = {" ".join(reference["title"].split()): reference for reference in CITATION["references"]}
    for paper in PAPERS.values():
        reference = references[paper.title]
        assert tuple(map(name_of, reference["authors"])) == paper.authors
        assert (reference["year"], reference.get("doi")) == (paper.year, paper.doi)
        assert (str(reference.get("volume", "")), str(reference.get("start", ""))) == (paper.volume, paper.pages)


def test_each_part_of_a_model_brings_its_paper():
    assert set(BACKBONES) <= set(PAPERS)
    assert papers_behind(TrainingConfig(model={"name": "alignn"})) == ["alignn"]
    taught = TrainingConfig(head={"name": "multimodal", "teacher": "t"})
    assert papers_behind(taught) == ["cgcnn", "crysgnn", "crysmmnet", "matscibert"]
    small = TrainingConfig(head={"name": "multimodal", "encoder": "minilm"})
    assert papers_behind(small) == ["cgcnn", "crysmmnet"]
    potentials = TrainingConfig(head={"name": "multimodal", "teacher": "sevennet-0:5", "embeddings": "chgnet-r2scan"})
    assert papers_behind(potentials) == ["cgcnn", "crysgnn", "sevennet", "chgnet"]
    assert papers_behind(PretrainingConfig(method={"name": "crysae"})) == ["cgcnn", "crysxpp"]
    assert papers_behind(PretrainingConfig()) == ["cgcnn"]


def test_a_shipped_model_brings_its_papers():
    fused = TrainingConfig(head={"name": "multimodal", "embeddings": "imitation-jarvis"})
    assert papers_behind(fused) == ["cgcnn", "crysgnn", "sevennet"]
    started = TrainingConfig(model={"name": "crysxpp"}, init_from="crysae-mp")
    assert papers_behind(started) == ["crysxpp", "cgcnn"]
    own = TrainingConfig(init_from="chgnet-runs/alignn")  # a folder, whose name says nothing
    assert papers_behind(own) == ["cgcnn"]
    taught = TrainingConfig(model={"name": "gatgnn"}, head={"name": "distilled", "teacher": "decoys-mp"})
    assert papers_behind(taught) == ["gatgnn", "crysgnn", "cgcnn"]


def test_a_paper_as_text_and_for_bibtex():
    paper = PAPERS["alignn"]
    assert paper.text() == (
        "Choudhary and DeCost, Atomistic Line Graph Neural Network for improved materials property predictions, "
        "npj Computational Materials 7, 185 (2021)"
    )
    assert PAPERS["crysmmnet"].text().startswith("Das et al., CrysMMNet: ")
    assert paper.bibtex("alignn").startswith(
        "@article{alignn, author = {Choudhary, Kamal and DeCost, Brian}, title = {"
    )
    assert ", volume = {7}, pages = {185}, year = {2021}, doi = {10.1038/" in paper.bibtex("alignn")
    assert "volume" not in PAPERS["crysmmnet"].bibtex("crysmmnet")
