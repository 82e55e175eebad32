"""CrysXPP and CrysGNN, whose code is not to be installed, against forward passes written out atom by atom."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from crysmm.convert.conversion import convert
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.elements import feature_table
from crysmm.errors import InputError
from crysmm.inference.predictor import load
from crysmm.inference.saved_models import load_encoder

from .conftest import Original, read_crystals

WIDTH, GAUSSIANS, READOUT = 6, 41, 5
MEAN, STD = -1.5, 1.1


def neighbors(crystal: Crystal) -> list[list[tuple[float, int]]]:
    """Distance and number of the 12 nearest of each atom, among all images within a few cells."""
    images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    found = []
    for position in crystal.frac_coords:
        steps = crystal.frac_coords[:, None] + images - position
        distances = np.linalg.norm(steps @ crystal.lattice, axis=2)
        order = np.argsort(distances, axis=None)[1:13]  # the first is the atom itself
        found.append([(distances.flat[place], place // len(images)) for place in order])
    return found


def weights_of(n_convolutions: int, **extra: tuple[int, ...]) -> dict[str, Tensor]:
    """Random weights by the authors' names, normalizations with statistics."""
    generator = torch.Generator().manual_seed(2)
    shapes = {"embedding.weight": (WIDTH, 92), **extra}
    for layer in range(n_convolutions):
        shapes[f"convs.{layer}.fc_full.weight"] = (2 * WIDTH, 2 * WIDTH + GAUSSIANS)
        shapes[f"convs.{layer}.fc_full.bias"] = (2 * WIDTH,)
        for norm, width in (("bn1", 2 * WIDTH), ("bn2", WIDTH)):
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"convs.{layer}.{norm}.{part}"] = (width,)
    weights = {name: torch.randn(shape, generator=generator) * 0.4 for name, shape in shapes.items()}
    return {name: value.abs() + 0.5 if "running_var" in name else value for name, value in weights.items()}


def batch_norm(rows: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    weight, bias, mean, variance = (
        weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (rows - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def atoms_by_hand(crystal: Crystal, weights: dict[str, Tensor], n_convolutions: int) -> Tensor:
    """Section 0 of the papers: ``v_i' = softplus(v_i + BN(sum_j sigmoid(f_ij) softplus(c_ij)))``."""
    features = torch.from_numpy(feature_table("cgcnn")[crystal.atomic_numbers])
    atoms = (features * weights.get("mask", torch.ones(92))) @ weights["embedding.weight"].T
    atoms = atoms + weights.get("embedding.bias", torch.zeros(WIDTH))
    centers = torch.arange(GAUSSIANS) * 0.2
    bonds = neighbors(crystal)
    for layer in range(n_convolutions):
        sums = []
        for atom, around in enumerate(bonds):
            rows = torch.stack(
                [
                    torch.cat([atoms[atom], atoms[other], torch.exp(-((distance - centers) ** 2) / 0.2**2)])
                    for distance, other in around
                ]
            )
            gates = rows @ weights[f"convs.{layer}.fc_full.weight"].T + weights[f"convs.{layer}.fc_full.bias"]
            filters, core = batch_norm(gates, weights, f"convs.{layer}.bn1").chunk(2, dim=1)
            sums.append((torch.sigmoid(filters) * softplus(core)).sum(0))
        atoms = softplus(atoms + batch_norm(torch.stack(sums), weights, f"convs.{layer}.bn2"))
    return atoms


def save(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "model_best.pth.tar")
    return folder / "model_best.pth.tar"


def test_crysxpp(tmp_path: Path, sample: list[Crystal]) -> None:
    weights = weights_of(
        2,
        **{"mask": (92,), "embedding.bias": (WIDTH,), "conv_to_fc.weight": (READOUT, WIDTH)},
        **{"conv_to_fc.bias": (READOUT,), "fc_out.weight": (1, READOUT), "fc_out.bias": (1,)},
    )
    normalizer = {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)}
    content = {"epoch": 1, "state_dict": weights, "best_mae_error": 0.1, "optimizer": {}, "normalizer": normalizer}
    convert("crysxpp", save(content, tmp_path), None, tmp_path / "model")
    expected = []
    for crystal in sample:
        pooled = softplus(atoms_by_hand(crystal, weights, 2).mean(0))
        hidden = softplus(weights["conv_to_fc.weight"] @ pooled + weights["conv_to_fc.bias"])
        expected.append((weights["fc_out.weight"] @ hidden + weights["fc_out.bias"]) * STD + MEAN)
    values = torch.stack(expected).numpy()
    assert values.std() > 0.01
    np.testing.assert_allclose(load(tmp_path / "model", device="cpu").predict(sample), values, rtol=0, atol=1e-4)


DECODERS = {"fc_adj.weight": (6, WIDTH, WIDTH), "fc1.bias": (6,), "fc_atom_feature.bias": (92,)}
FIRST_DECODERS = {**DECODERS, "fc_edge.weight": (6, WIDTH, WIDTH), "fc2.bias": (6,)}


@pytest.mark.parametrize(
    ("code", "decoders"),
    [
        ("crysgnn", {**DECODERS, "fc_sg.bias": (230,)}),
        ("crysxpp", DECODERS),
        ("crysxpp", FIRST_DECODERS),
        ("crysxpp", {}),
    ],
)
def test_encoders(code: str, decoders: dict[str, tuple[int, ...]], tmp_path: Path, sample: list[Crystal]) -> None:
    """CrysGNN's, and that of CrysXPP's auto-encoder: by the last code, by the first, and without its decoders."""
    weights = weights_of(3, **decoders)
    conversion = convert(code, save(weights, tmp_path), None, tmp_path / "model")
    assert any("only the encoder" in note for note in conversion.notes)
    encoder = load_encoder(tmp_path / "model")
    assert conversion.config.method.name == {"crysgnn": "crysgnn", "crysxpp": "crysae"}[code]
    nodes = encoder.backbone(collate_crystals(sample, encoder.settings)).nodes
    expected = torch.cat([atoms_by_hand(crystal, weights, 3) for crystal in sample])
    torch.testing.assert_close(nodes, expected, rtol=0, atol=1e-4)
    assert normalize(expected, dim=1).std(dim=0).max() > 0.01


def test_an_encoder_with_a_space_group_decoder_is_not_crysxpps(tmp_path: Path) -> None:
    weights = weights_of(3, **DECODERS, **{"fc_sg.bias": (230,)})
    with pytest.raises(InputError, match=r"in the checkpoint, but not in the network: fc_sg\.bias"):
        convert("crysxpp", save(weights, tmp_path), None, tmp_path / "model")


@pytest.mark.parametrize("original", ["tiny-cgcnn"], indirect=True)
def test_the_hand_written_pass_is_cgcnns(original: Original) -> None:
    weights = torch.load(original.checkpoint)["state_dict"]
    for name, crystal in read_crystals().items():
        (expected,) = original.predictions[name]
        atoms = atoms_by_hand(crystal, weights, 2)
        hidden = softplus(atoms.mean(0))
        for layer in ("conv_to_fc", "fcs.0"):
            hidden = softplus(weights[f"{layer}.weight"] @ hidden + weights[f"{layer}.bias"])
        output = weights["fc_out.weight"] @ hidden + weights["fc_out.bias"]
        assert float(output) * 4.0 - 1.5 == pytest.approx(expected, abs=1e-4)
