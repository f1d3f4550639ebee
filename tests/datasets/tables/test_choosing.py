"""What a model folder says is taken where nothing is set; what is set counts, or is refused by its name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from relatif.pipeline.checkpoints.text_models import text_model
from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import examples

WORDS = ["[UNK]", "[PAD]", "a", "good", "bad", "film", "<mask>"]


def model_folder(path: Path, config: dict[str, Any], stated: dict[str, Any] | None = None) -> str:
    path.mkdir()
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer_config.json").write_text(json.dumps(stated or {}))
    return str(path)


def opened(tmp_path: Path, folder: str | None, columns: dict[str, Any], **settings: Any) -> tuple[Store, PreparedDataset]:  # fmt: skip # noqa: E501
    source = tmp_path / "source"
    source.mkdir()
    for part in ("train", "test"):
        pq.write_table(pa.table(columns), source / f"{part}.parquet")
    config = DataConfig.model_validate({"source": str(source), **settings})
    reading = Reading(config, begun=None, **({} if folder is None else {"text_model": lambda: text_model(folder)}))
    return open_source(open_store(source), open_store(tmp_path / "prepared"), reading)


TEXTS = {"text": ["a good film", "bad"], "label": [0, 1]}


def test_the_folders_tokenizer_and_positions_are_taken_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder(tmp_path / "m", {"model_type": "bert", "max_position_embeddings": 4, "vocab_size": 7})
    store, dataset = opened(tmp_path, folder, TEXTS)
    inputs = examples(store, dataset, "train").inputs
    assert isinstance(inputs, dict)
    assert inputs["input_ids"].tolist() == [[2, 3, 5, 1], [4, 1, 1, 1]]
    told = capsys.readouterr().err
    assert f"the tokenizer of {folder}; at most 4 tokens, max_position_embeddings of config.json in {folder}" in told
    facts = dataset.description.provenance.reader
    assert facts is not None
    assert facts["max_length"] == "4"
    assert "tokenizer" in facts


def test_128_tokens_where_the_model_reads_more(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", {"max_position_embeddings": 512})
    _, dataset = opened(tmp_path, folder, TEXTS)
    assert dataset.description.inputs[0].shape == (128,)


def test_a_length_that_is_set_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "m", {"max_position_embeddings": 512})
    _, dataset = opened(tmp_path, folder, TEXTS, max_length=3, tokenizer=folder)
    assert dataset.description.inputs[0].shape == (3,)
    assert "at most" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "stated", "told"),
    [
        ({"n_positions": 8}, {}, "n_positions of config.json"),
        ({"n_positions": 16}, {"model_max_length": 8}, "model_max_length of tokenizer_config.json"),
    ],
)
@pytest.mark.parametrize("columns", [TEXTS, {"input_ids": [[1], [2]], "label": [0, 1]}])
def test_a_length_beyond_the_models_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], stated: dict[str, Any], told: str, columns: dict[str, Any]
) -> None:
    folder = model_folder(tmp_path / "m", config, stated)
    with pytest.raises(DataError, match=rf"expected data\.max_length of at most 8 \({told} in .*\), found 9; lower it"):
        opened(tmp_path, folder, columns, max_length=9)


def test_lists_longer_than_the_model_reads_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", {"n_positions": 2})
    with pytest.raises(DataError, match=r"lists of at most 2 tokens .*, found one of 3 .*; set data.max_length"):
        opened(tmp_path, folder, {"input_ids": [[1], [1, 2, 3]], "label": [0, 1]})


@pytest.mark.parametrize("columns", [TEXTS, {"input_ids": [[1], [5]], "label": [0, 1]}])
def test_tokens_that_are_no_words_of_the_model_are_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    folder = model_folder(tmp_path / "m", {"vocab_size": 5})
    with pytest.raises(DataError, match=r"model.* found (token )?5"):
        opened(tmp_path, folder, columns)


def test_what_the_model_takes_for_padding_is_padded_with(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", {"pad_token_id": 6, "n_positions": 4})
    store, dataset = opened(tmp_path, folder, TEXTS)
    inputs = examples(store, dataset, "train").inputs
    assert isinstance(inputs, dict)
    assert inputs["input_ids"].tolist() == [[2, 3, 5, 6], [4, 6, 6, 6]]
    facts = dataset.description.provenance.reader
    assert facts is not None
    assert facts["padding"] == "6"


def test_lists_that_are_padded_need_their_mask(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", {"pad_token_id": 1})
    padded = {"input_ids": [[2, 3, 4, 5], [2, 5, 1, 1]], "label": [0, 1]}
    with pytest.raises(DataError, match=r"a column 'attention_mask' beside lists that are padded.* list in row 1 of"):
        opened(tmp_path, folder, padded)
    shutil.rmtree(tmp_path / "source")
    store, dataset = opened(tmp_path, folder, padded | {"attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]]})
    inputs = examples(store, dataset, "train").inputs
    assert isinstance(inputs, dict)
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("ids", [[[2, 1], [1]], [[1, 2], [2, 1]]])
def test_an_end_of_text_is_no_padding(tmp_path: Path, ids: list[list[int]]) -> None:
    folder = model_folder(tmp_path / "m", {"pad_token_id": 1})
    opened(tmp_path, folder, {"input_ids": ids, "label": [0, 1]})


def test_texts_are_a_language_models_own_targets(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", {"n_positions": 4})
    store, dataset = opened(tmp_path, folder, {"text": TEXTS["text"]})
    assert examples(store, dataset, "train").labels.tolist() == [[2, 3, 5, -100], [4, -100, -100, -100]]


def test_texts_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a tokenizer for the texts of column 'text', found none; set"):
        opened(tmp_path, None, TEXTS)
