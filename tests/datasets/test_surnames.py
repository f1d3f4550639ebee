"""Surnames are read from text files or the tutorial's zip, stripped of accents, and a share of each class held out."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pytest

from relatif.pipeline.datasets.description import DATASET_JSON
from relatif.pipeline.datasets.preparing import prepare_once
from relatif.pipeline.datasets.provenance import HoldOut
from relatif.pipeline.datasets.shards import PreparedDataset, read_shard
from relatif.pipeline.datasets.surnames import (
    VOCABULARY,
    encode,
    is_surnames,
    parse_names,
    plain_letters,
    read_surnames,
)
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
PUBLISHED = REPOSITORY.parent / "shared" / "data" / "names"

# What was written into the files, in the tests' own alphabet: the code of a letter is its place, from 1.
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'"
NAMES = {
    "Greek": [f"Papa{'aeiou'[number % 5] * (number // 5 + 1)}s" for number in range(20)],
    "Irish": [f"Ó {letter}ara" for letter in "BCDFGHJKLMNPRSTVWZ"] + ["O'Brien"],
    "Old Norse": ["Ása", "Bó", "Þór-Åk"],
}

PUBLISHED_NAMES, PUBLISHED_LANGUAGES = 20_050, 18
PUBLISHED_RUSSIAN = 9384


def write_names(folder: Path, names: dict[str, list[str]] = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for language, lines in names.items():
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/eng-fra.txt", "Go.\tVa !")
        for language, lines in NAMES.items():
            archive.writestr(f"data/names/{language}.txt", "\n".join(lines) + "\n")
            archive.writestr(f"__MACOSX/data/names/._{language}.txt", b"\x00\xff")


def read_back(folder: Path) -> dict[str, list[tuple[str, int, str]]]:
    """Text, label and decoded name of every row in order, read by another library."""
    found = {}
    for split in ("train", "test"):
        query = f"select text, label, name from read_parquet('{folder}/{split}/*.parquet', file_row_number = true)"
        rows = duckdb.sql(query).fetchall()
        found[split] = [
            (text, label, "".join(ALPHABET[c - 1] if c else "~" for c in name)) for text, label, name in rows
        ]
    return found


def prepared(
    source: Path, out: Path, **options: HoldOut
) -> tuple[PreparedDataset, dict[str, list[tuple[str, int, str]]]]:
    return prepare_once(open_store(out), read_surnames(open_store(source), **options)), read_back(out)


def test_every_name_is_there_once_with_its_language_and_letters(tmp_path: Path) -> None:
    dataset, rows = prepared(write_names(tmp_path / "source"), tmp_path / "out")
    assert dataset.class_names == tuple(NAMES)
    everything = rows["train"] + rows["test"]
    assert Counter((text, label) for text, label, _ in everything) == Counter(
        (name, label) for label, names in enumerate(NAMES.values()) for name in names
    )
    plain = {text: name.rstrip("~") for text, _, name in everything}
    assert (plain["Ó Bara"], plain["O'Brien"], plain["Þór-Åk"], plain["Ása"]) == ("O Bara", "O'Brien", "orAk", "Asa")
    assert dataset.input_shape == (len("Papaaaaas"),)  # the longest
    assert {len(name) for _, _, name in everything} == {len("Papaaaaas")}
    assert all("~" not in name.rstrip("~") for _, _, name in everything)


def test_the_description_tells_how_to_read_the_codes_and_the_split(tmp_path: Path) -> None:
    dataset, _ = prepared(write_names(tmp_path / "source"), tmp_path / "out")
    described = dataset.description
    assert (described.input.vocabulary, described.input.text_column) == (ALPHABET, "text")
    assert described.provenance.hold_out == HoldOut(share=0.15, seed=0, names=("Vasyukov",))


def test_the_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    _, rows = prepared(write_names(tmp_path / "source"), tmp_path / "out")
    assert Counter(label for _, label, _ in rows["test"]) == {0: 3, 1: 3, 2: 1}  # of 20, 19 and 3
    _, half = prepared(tmp_path / "source", tmp_path / "half", hold_out=HoldOut(share=0.5, seed=0))
    assert Counter(label for _, label, _ in half["test"]) == {0: 10, 1: 10, 2: 2}


def test_the_seed_decides_which_are_held_out_and_the_order(tmp_path: Path) -> None:
    source = write_names(tmp_path / "source")
    by_seed = [prepared(source, tmp_path / f"{seed}", hold_out=HoldOut(share=0.15, seed=seed))[1] for seed in range(20)]
    assert prepared(source, tmp_path / "again", hold_out=HoldOut(share=0.15, seed=3))[1] == by_seed[3]
    held_out = Counter(text for rows in by_seed for text, _, _ in rows["test"])
    assert len(held_out) > 35  # of 42 names; 140 draws
    assert max(held_out[name] for name in NAMES["Greek"]) < 12
    assert by_seed[0]["train"] != by_seed[1]["train"]
    labels = [label for _, label, _ in by_seed[0]["train"]]
    assert labels != sorted(labels)


def test_a_name_is_held_out_by_every_seed_and_the_share_stays(tmp_path: Path) -> None:
    # As often as it occurs, in every language, whatever its accents.
    names = {**NAMES, "Irish": [*NAMES["Irish"], "O Bara"], "Old Norse": [*NAMES["Old Norse"], "O Bára"]}
    source = write_names(tmp_path / "source", names)
    for seed in range(5):
        hold_out = HoldOut(share=0.15, seed=seed, names=("Ó Bara", "Papaes"))
        dataset, rows = prepared(source, tmp_path / f"{seed}", hold_out=hold_out)
        held_out = Counter(text for text, _, _ in rows["test"])
        assert {name: held_out[name] for name in ("Ó Bara", "O Bara", "O Bára", "Papaes")} == {
            "Ó Bara": 1,
            "O Bara": 1,
            "O Bára": 1,
            "Papaes": 1,
        }
        assert not {"Ó Bara", "O Bara", "O Bára", "Papaes"} & {text for text, _, _ in rows["train"]}
        assert Counter(label for _, label, _ in rows["test"]) == {0: 3, 1: 3, 2: 1}  # of 20, 20 and 4
        assert dataset.description.provenance.hold_out == hold_out


def test_names_beyond_the_share_are_all_held_out_but_not_a_whole_language(tmp_path: Path) -> None:
    source, norse = write_names(tmp_path / "source"), tuple(NAMES["Old Norse"])
    _, rows = prepared(source, tmp_path / "two", hold_out=HoldOut(share=0.15, seed=0, names=norse[:2]))
    assert sorted(text for text, label, _ in rows["test"] if label == 2) == sorted(norse[:2])
    assert [text for text, label, _ in rows["train"] if label == 2] == [norse[2]]
    with pytest.raises(DataError, match=r"name in .*Old Norse\.txt that may be learned from, found none but Ása, Bó"):
        prepared(source, tmp_path / "all", hold_out=HoldOut(share=0.15, seed=0, names=norse))


def test_a_name_that_is_to_be_held_out_must_be_there_unless_it_is_the_papers(tmp_path: Path) -> None:
    source = write_names(tmp_path / "source")
    lot = HoldOut(share=0.15, seed=0)
    _, by_lot = prepared(source, tmp_path / "lot", hold_out=lot)
    assert prepared(source, tmp_path / "default")[1] == by_lot
    for missing in ("Vasyukova", "山田"):
        with pytest.raises(DataError, match=rf"expected {missing} in .*source, to be held out, found no such name"):
            prepared(source, tmp_path / "out", hold_out=lot.model_copy(update={"names": ("Vasyukov", missing)}))
    assert not (tmp_path / "out" / DATASET_JSON).exists()


def test_read_shard_gives_the_codes(tmp_path: Path) -> None:
    dataset, rows = prepared(write_names(tmp_path / "source"), tmp_path / "out")
    store: Store = open_store(tmp_path / "out")
    (shard,) = dataset.shards("train", rows=1000)
    examples = read_shard(store, dataset, shard)
    decoded = ["".join(ALPHABET[c - 1] if c else "~" for c in codes) for codes in examples.inputs.tolist()]
    assert decoded == [name for _, _, name in rows["train"]]
    assert examples.labels.tolist() == [label for _, label, _ in rows["train"]]


@pytest.mark.parametrize("place", ["data/names", "names", "data.zip"])
def test_every_place_gives_the_same_rows(tmp_path: Path, place: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if place.endswith(".zip"):
        write_zip(source / place)
    else:
        write_names(source / place)
    assert is_surnames(open_store(source))
    dataset, rows = prepared(source, tmp_path / "out")
    plain, expected = prepared(write_names(tmp_path / "plain"), tmp_path / "expected")
    assert rows == expected
    assert dataset.fingerprint == plain.fingerprint


def test_preparing_again_writes_nothing_but_another_seed_everything(tmp_path: Path) -> None:
    source = write_names(tmp_path / "source")
    first, _ = prepared(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert prepared(source, tmp_path / "out")[0] == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    changed, _ = prepared(source, tmp_path / "out", hold_out=HoldOut(share=0.15, seed=1))
    assert changed.fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Abel\nB\xe9la\n", r"UTF-8 in line 2 of .*Irish\.txt"),
        ("Abel\n\n山田\n".encode(), r"Latin letter in line 3 of .*Irish\.txt, found '山田'"),
        (b"Abel\n\n", r"at least 2 names in .*Irish\.txt, .* found 1"),
        (b"", r"at least 2 names in .*Irish\.txt, .* found 0"),
    ],
)
def test_a_file_that_is_no_list_of_names_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (write_names(tmp_path / "source") / "Irish.txt").write_bytes(data)
    with pytest.raises(DataError, match=message):
        prepare_once(open_store(tmp_path / "out"), read_surnames(open_store(tmp_path / "source")))
    assert not (tmp_path / "out" / DATASET_JSON).exists()


def test_missing_files_and_a_damaged_zip_are_told(tmp_path: Path) -> None:
    out = open_store(tmp_path / "out")
    with pytest.raises(DataError, match=r"or data\.zip or names\.zip in .*, found neither"):
        prepare_once(out, read_surnames(open_store(tmp_path)))
    write_names(tmp_path / "one", {"Greek": NAMES["Greek"]})
    with pytest.raises(DataError, match=r"at least 2 languages in .*one, found 1"):
        prepare_once(out, read_surnames(open_store(tmp_path / "one")))
    write_zip(tmp_path / "data.zip")
    whole = (tmp_path / "data.zip").read_bytes()
    (tmp_path / "data.zip").write_bytes(whole[:-40])
    assert is_surnames(open_store(tmp_path))
    with pytest.raises(DataError, match=r"whole zip file at .*data\.zip"):
        prepare_once(out, read_surnames(open_store(tmp_path)))
    (tmp_path / "data.zip").write_bytes(whole.replace(b"Papaas", b"Papabs", 1))
    with pytest.raises(DataError, match=r"whole zip file at .*data\.zip.*CRC"):
        prepare_once(out, read_surnames(open_store(tmp_path)))


def test_a_file_without_a_name_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for language in ("\r", "Greek"):
            archive.writestr(f"data/names/{language}.txt", "Abel\nBela")
    with pytest.raises(DataError, match=r"named like languages in .*, found one without a name, '\\r\.txt'; rename it"):
        read_surnames(open_store(tmp_path))


def test_other_text_files_are_not_taken_for_names(tmp_path: Path) -> None:
    write_names(tmp_path / "notes", {"README": ["a"], "requirements": ["b"]})
    write_names(tmp_path / "single", {"Greek": ["a", "b"]})
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("data/eng-fra.txt", "Go.\tVa !")
    (tmp_path / "data.zip").write_bytes(other.getvalue())
    for folder in (tmp_path / "notes", tmp_path / "single", tmp_path):
        assert not is_surnames(open_store(folder))
    assert is_surnames(open_store(write_names(tmp_path / "names")))


def test_letters_lose_their_accents() -> None:
    found = [plain_letters(name) for name in ("Ślusàrski", "O'Néàl", "Müller", "Żółć", "Abdulov-Ali", "São Paulo")]
    assert found == ["Slusarski", "O'Neal", "Muller", "Zoc", "AbdulovAli", "Sao Paulo"]
    assert VOCABULARY == ALPHABET


def test_lines_are_stripped_and_empty_ones_dropped() -> None:
    assert parse_names("\ufeffAbel \r\n\r\n  Béla".encode(), "here") == [("Abel", "Abel"), ("Béla", "Bela")]


def test_codes_count_from_one_and_zeros_fill_up() -> None:
    codes = encode(["ab", "Z '"], 4)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[1, 2, 0, 0], [52, 53, 57, 0]]


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published files do not lie beside the repository")
def test_the_published_names(tmp_path: Path) -> None:
    source, out = open_store(PUBLISHED), tmp_path / "out"
    assert is_surnames(source)
    dataset = prepare_once(open_store(out), read_surnames(source))
    rows = read_back(out)
    assert len(dataset.class_names) == PUBLISHED_LANGUAGES
    assert len(rows["train"]) + len(rows["test"]) == PUBLISHED_NAMES
    russian = dataset.class_names.index("Russian")
    held_out = [text for text, label, _ in rows["test"] if label == russian]
    assert len(held_out) == round(0.15 * PUBLISHED_RUSSIAN)
    assert "Vasyukov" in held_out  # the example of the paper's Table 3
    lines = [line.strip() for path in PUBLISHED.glob("*.txt") for line in path.read_text("utf-8").splitlines()]
    assert Counter(lines) == Counter(text for split in rows.values() for text, _, _ in split)
