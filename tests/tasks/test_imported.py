"""The state of a task's model from a file."""

from pathlib import Path

import pytest
import torch
from torch import nn

from relatif.pipeline.tasks.imported import imported
from relatif.pipeline.tasks.task import Task
from relatif.schemas.errors import ModelError


def test_the_state_is_the_files_and_what_was_read_is_told(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    torch.save({f"module.{name}": value for name, value in model.state_dict().items()}, tmp_path / "model.pt")
    before = torch.random.get_rng_state()
    found = imported(Task("mine", 2, lambda: nn.Linear(3, 2)), str(tmp_path / "model.pt"))
    assert torch.equal(found.state["weight"], model.weight)
    assert found.told[0] == f"2 tensors from {tmp_path}/model.pt (a state dict)"
    assert "module." in found.told[1]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"task 'mine' in .*model.pt .a state dict., found 1 of another shape"):
        imported(Task("mine", 2, lambda: nn.Linear(3, 2)), str(tmp_path / "model.pt"))
