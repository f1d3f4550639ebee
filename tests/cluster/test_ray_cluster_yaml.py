"""The cluster file passes the installed Ray's own validation, and that validation refuses what it should."""

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.support.checkouts import lay_cluster_files

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ray_cluster.yaml").read_text(encoding="utf-8")
LOCAL_ONLY = ("provider", "auth")


def _load() -> dict[str, Any]:
    loaded = yaml.safe_load(TEXT)
    assert isinstance(loaded, dict)
    return loaded


def _cloud(name: str) -> dict[str, Any]:
    """The file after its own instruction: the commented block in the place of the local provider."""
    block = re.search(rf"^# --- {name}:[^\n]*\n(.*?)^# --- end$", TEXT, re.MULTILINE | re.DOTALL)
    assert block is not None, f"no commented block for {name}"
    uncommented = "".join(line.removeprefix("# ") for line in block[1].splitlines(keepends=True))
    kept = {key: value for key, value in _load().items() if key not in LOCAL_ONLY}
    return {**kept, **yaml.safe_load(uncommented)}


def _validate(config: dict[str, Any]) -> dict[str, Any]:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_local_cluster_is_valid() -> None:
    prepared = _validate(_load())
    assert prepared["provider"]["head_ip"] == "127.0.0.1"
    assert prepared["max_workers"] == 0


def test_further_machines_become_workers() -> None:
    config = _load()
    config["provider"] |= {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    node_type = _validate(config)["available_node_types"]["local.cluster.node"]
    assert (node_type["min_workers"], node_type["max_workers"]) == (2, 2)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_commented_cloud_is_valid(name: str) -> None:
    prepared = _validate(_cloud(name))
    assert prepared["provider"]["type"] == name
    assert prepared["available_node_types"]["worker"]["max_workers"] == 4
    assert any("pip install" in command for command in prepared["worker_setup_commands"])


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("worker_nodes_count",), 2, "worker_nodes_count"),
        (("setup_commands",), "pip install torch", "not of type 'array'"),
        (("auth", "ssh_key"), "~/.ssh/id_ed25519", "ssh_key"),
        (("provider", "worker_ips"), "10.0.0.2", "not of type 'array'"),
    ],
)
def test_broken_key_is_refused(path: tuple[str, ...], value: Any, reason: str) -> None:
    # Prepared first: what is broken is then the only thing that can be refused.
    config = prepare_config(_load())
    target = config
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=reason):
        validate_config(config)


def test_cloud_with_unknown_head_type_is_refused() -> None:
    config = {**_cloud("aws"), "head_node_type": "coordinator"}
    with pytest.raises(ValueError, match="head_node_type"):
        _validate(config)


def test_every_copied_path_exists() -> None:
    copied = _load()["file_mounts"]
    sources = {"__init__.py", "relatif", "schemas", "pipeline", "jobs"}
    assert {"pyproject.toml", "requirements.lock", *sources} <= set(copied.values())
    assert [path for path in copied.values() if not (ROOT / path).exists()] == []
    assert {remote: local for remote, local in copied.items() if remote != f"~/relatif/{local}"} == {}


def test_every_link_that_is_copied_leads_to_what_is_copied(tmp_path: Path) -> None:
    """Links are copied as they are: a folder that a link leads to has to be copied, too."""
    project = lay_cluster_files(tmp_path)
    links = [path for path in project.rglob("*") if path.is_symlink()]
    assert {path.name for path in links} == {"__init__.py", "schemas", "pipeline", "jobs"}
    assert {path.parent for path in links} == {project / "relatif"}
    assert [path for path in links if not path.exists() or not path.resolve().is_relative_to(project)] == []


def test_dashboard_stays_on_loopback() -> None:
    start = [command for command in _load()["head_start_ray_commands"] if "ray start" in command]
    assert len(start) == 1
    assert "--dashboard-host=127.0.0.1" in start[0].split()
