"""How many tokens a model folder's model reads, of which vocabulary, and what it pads with."""

import json
from pathlib import Path

import pytest

from relatif.pipeline.checkpoints.text_models import Limit, TextModel, length_limit, text_model
from relatif.schemas.errors import DataError


def folder(path: Path, config: object, tokenizer: object = None) -> str:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (path / "tokenizer.json").write_text("{}")
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return str(path)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "distilbert", "max_position_embeddings": 32}, 32),
        ({"model_type": "gpt2", "n_positions": 64}, 64),
        # The first token's position has the number behind the padding's: of 40 the numbers 2 to 39 are left.
        ({"model_type": "roberta", "max_position_embeddings": 40, "pad_token_id": 1}, 38),
        ({"model_type": "t5", "n_positions": 512}, None),
        ({"model_type": "bloom"}, None),
        ({"model_type": "bert", "max_position_embeddings": None}, None),
        ({"model_type": "bert", "max_position_embeddings": True}, None),
    ],
)
def test_positions_bound_the_tokens(tmp_path: Path, config: dict[str, object], tokens: int | None) -> None:
    found = text_model(folder(tmp_path / "m", config)).positions
    assert (found and found.tokens) == tokens


def test_roberta_reads_as_many_tokens_as_are_told_and_no_more(tmp_path: Path) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.RobertaConfig(**sizes, intermediate_size=4, max_position_embeddings=12, pad_token_id=1)
    model = transformers.RobertaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    limit = text_model(str(tmp_path)).positions
    assert limit is not None
    model(torch.full((1, limit.tokens), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit.tokens + 1), 5))


def test_a_folder_tells_tokenizer_words_and_padding(tmp_path: Path) -> None:
    address = folder(tmp_path / "m", {"vocab_size": 20, "pad_token_id": 3, "n_positions": 9}, {})
    assert text_model(address) == TextModel(address, Limit(9, f"n_positions of config.json in {address}"), 20, 3)
    assert text_model(folder(tmp_path / "n", {"pad_token_id": None})) == TextModel()
    assert text_model(str(tmp_path)) == TextModel()


@pytest.mark.parametrize(
    ("stated", "tokens"), [(16, 16), (64, 32), (1000000000000000019884624838656, 32), (1e30, 32), (None, 32)]
)
def test_the_tokenizer_may_state_fewer(tmp_path: Path, stated: float | None, tokens: int) -> None:
    address = folder(tmp_path / "m", {"max_position_embeddings": 32}, {"model_max_length": stated})
    found = length_limit(text_model(address), address)
    assert found is not None
    assert found.tokens == tokens
    assert ("model_max_length of tokenizer_config.json" in found.told) is (tokens == 16)


def test_without_either_nothing_is_known(tmp_path: Path) -> None:
    assert length_limit(TextModel(), str(tmp_path)) is None
    assert length_limit(TextModel(), None) is None


def test_a_damaged_tokenizer_configuration_is_refused(tmp_path: Path) -> None:
    address = folder(tmp_path / "m", {}, {})
    (tmp_path / "m/tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match=r"expected the configuration of a tokenizer in .*, found no JSON"):
        length_limit(text_model(address), address)
