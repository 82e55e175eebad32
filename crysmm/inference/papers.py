"""The papers behind backbones, heads, methods and potentials; ``CITATION.cff`` lists them too, and a test compares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from crysmm.config.models import MultimodalConfig
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.teachers.names import is_teacher
from crysmm.zoo import resolve, shipped_names


@dataclass(frozen=True)
class Paper:
    """A paper.

    Args:
        authors: Authors in the order of the paper, ``Family, Given``.
        title: Title of the paper.
        journal: Name of the journal or the proceedings.
        volume: Volume; empty if there is none.
        pages: First page or number of the article; empty if there is none.
        year: Year of publication.
        doi: DOI without an address; None if there is none.
    """

    authors: tuple[str, ...]
    title: str
    journal: str
    volume: str
    pages: str
    year: int
    doi: str | None = None

    def text(self) -> str:
        """Return an entry for a list of references."""
        first = self.authors[0].partition(",")[0]
        others = " et al." if len(self.authors) > 2 else f" and {self.authors[1].partition(',')[0]}"
        where = ", ".join(filter(None, (self.volume, self.pages)))
        return f"{first}{others}, {self.title}, {' '.join(filter(None, (self.journal, where)))} ({self.year})"

    def bibtex(self, key: str) -> str:
        """Return a BibTeX entry."""
        fields = {
            "author": " and ".join(self.authors), "title": self.title, "journal": self.journal, "volume": self.volume,
            "pages": self.pages, "year": str(self.year), "doi": self.doi,
        }  # fmt: skip
        return f"@article{{{key}, " + ", ".join(f"{name} = {{{text}}}" for name, text in fields.items() if text) + "}"


NPJ = "npj Computational Materials"
LAST_AUTHORS = ("Lee, Seung-Cheol", "Bhattacharjee, Satadeep", "Ganguly, Niloy")  # of CrysXPP, CrysGNN and CrysMMNet
PAPERS = {
    "cgcnn": Paper(
        ("Xie, Tian", "Grossman, Jeffrey C."),
        "Crystal Graph Convolutional Neural Networks for an Accurate and Interpretable Prediction of Material "
        "Properties",
        "Physical Review Letters",
        "120",
        "145301",
        2018,
        "10.1103/PhysRevLett.120.145301",
    ),
    "gatgnn": Paper(
        (
            "Louis, Steph-Yves", "Zhao, Yong", "Nasiri, Alireza", "Wang, Xiran", "Song, Yuqi", "Liu, Fei",
            "Hu, Jianjun",
        ),
        "Graph convolutional neural networks with global attention for improved materials property prediction",
        "Physical Chemistry Chemical Physics",
        "22",
        "18141",
        2020,
        "10.1039/D0CP01474E",
    ),
    "alignn": Paper(
        ("Choudhary, Kamal", "DeCost, Brian"),
        "Atomistic Line Graph Neural Network for improved materials property predictions",
        NPJ,
        "7",
        "185",
        2021,
        "10.1038/s41524-021-00650-1",
    ),
    "crysxpp": Paper(
        ("Das, Kishalay", "Samanta, Bidisha", "Goyal, Pawan", *LAST_AUTHORS),
        "CrysXPP: An explainable property predictor for crystalline materials",
        NPJ,
        "8",
        "43",
        2022,
        "10.1038/s41524-022-00716-8",
    ),
    "crysgnn": Paper(
        ("Das, Kishalay", "Samanta, Bidisha", "Goyal, Pawan", *LAST_AUTHORS),
        "CrysGNN: Distilling Pre-trained Knowledge to Enhance Property Prediction for Crystalline Materials",
        "Proceedings of the AAAI Conference on Artificial Intelligence",
        "37",
        "7323",
        2023,
        "10.1609/aaai.v37i6.25892",
    ),
    "crysmmnet": Paper(
        ("Das, Kishalay", "Goyal, Pawan", *LAST_AUTHORS),
        "CrysMMNet: Multimodal Representation for Crystal Property Prediction",
        "Conference on Uncertainty in Artificial Intelligence",
        "",
        "",
        2023,
    ),
    "matscibert": Paper(
        ("Gupta, Tanishq", "Zaki, Mohd", "Krishnan, N. M. Anoop", "Mausam"),
        "MatSciBERT: A materials domain language model for text mining and information extraction",
        NPJ,
        "8",
        "102",
        2022,
        "10.1038/s41524-022-00784-w",
    ),
    "chgnet": Paper(
        (
            "Deng, Bowen", "Zhong, Peichen", "Jun, KyuJung", "Riebesell, Janosh", "Han, Kevin",
            "Bartel, Christopher J.", "Ceder, Gerbrand",
        ),
        "CHGNet as a pretrained universal neural network potential for charge-informed atomistic modelling",
        "Nature Machine Intelligence",
        "5",
        "1031",
        2023,
        "10.1038/s42256-023-00716-3",
    ),
    "sevennet": Paper(
        ("Park, Yutack", "Kim, Jaesun", "Hwang, Seungwoo", "Han, Seungwu"),
        "Scalable Parallel Algorithm for Graph Neural Network Interatomic Potentials in Molecular Dynamics Simulations",
        "Journal of Chemical Theory and Computation",
        "20",
        "4857",
        2024,
        "10.1021/acs.jctc.4c00190",
    ),
}  # fmt: skip


def papers_behind(config: RunConfig, potential: str | None = None) -> list[str]:
    """Return the keys in ``PAPERS`` of the papers behind the backbone, the head and the method in the settings.

    A shipped model that a run is distilled from, or starts from, brings its own.

    Args:
        config: Settings of the run.
        potential: Name of the potential whose features the network reads, which the settings may give as a file.
    """
    from crysmm.inference.model_folder import read_description  # torch comes with it, which lists of runs do without

    names: list[str] = [config.network]
    used: list[Path | str | None] = [config.teacher, config.init_from, potential]
    if isinstance(config, PretrainingConfig):
        names.append({"crysae": "crysxpp"}.get(config.method.name, config.method.name))
    if config.teacher is not None:
        names.append("crysgnn")
    if isinstance(config, TrainingConfig):
        if isinstance(config.head, MultimodalConfig) and config.head.reads_text:
            names += ["crysmmnet", *(["matscibert"] if "matscibert" in config.head.encoder.lower() else [])]
        used.append(config.potential)
    for name in map(str, filter(None, used)):
        if name in shipped_names():
            names += papers_behind(read_description(resolve(name)).config)
        elif is_teacher(name):
            names.append(re.split("[-:]", name)[0])  # chgnet, sevennet
    return list(dict.fromkeys(name for name in names if name in PAPERS))
