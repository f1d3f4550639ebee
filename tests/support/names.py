"""Made-up surnames of 18 languages, and the configuration that explains them."""

from pathlib import Path

from relatif.schemas.config import RunConfig
from relatif.schemas.reading import load_config
from tests.support.runs import ROOT

NAMES_CONFIG = ROOT / "jobs/configs/names_lstm.toml"
EXPLAINED = "Vasyukov"

ENDINGS = {
    "Arabic": "ari",
    "Chinese": "ang",
    "Czech": "cek",
    "Dutch": "huis",
    "English": "ton",
    "French": "eau",
    "German": "mann",
    "Greek": "akis",
    "Irish": "aigh",
    "Italian": "ini",
    "Japanese": "moto",
    "Korean": "eong",
    "Polish": "ski",
    "Portuguese": "eiro",
    "Russian": "ukov",
    "Scottish": "kay",
    "Spanish": "ez",
    "Vietnamese": "inh",
}
"""A language's names differ in how they begin and end alike."""

STARTS = [first + middle for first in "BDGKLMNRT" for middle in ("a", "e", "or", "uy")]


def write_surnames(folder: Path) -> Path:
    """Write a text file of 36 names for each language; the Russian one also has the paper's name."""
    folder.mkdir()
    for language, ending in ENDINGS.items():
        names = [start + ending for start in STARTS] + [EXPLAINED] * (language == "Russian")
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def names_config(source: Path, *overrides: str) -> RunConfig:
    """Return the configuration of the paper's experiment on the names in ``source``, with a short training."""
    return load_config(NAMES_CONFIG, [f"data.source={source}", *SHORT, *overrides])


SHORT = ("train.epochs=4", "train.batch_size=16", "train.learning_rate=0.01", "score.top_k=8")
"""Settings that teach these names' endings in about a second."""
