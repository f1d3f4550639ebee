"""What can be refused is refused on the first rows of published data, before it is prepared."""

from pathlib import Path
from typing import Any

import pytest

from relatif.pipeline.explaining.audited import audit_untrained
from relatif.pipeline.preflight import looking
from relatif.pipeline.preflight.looking import look, look_before_preparing, refuse_what_does_not_fit
from relatif.pipeline.preflight.machine import Machine
from relatif.pipeline.preflight.opening import opened
from relatif.pipeline.preflight.plan import PLANNED
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.running import Before, begin
from relatif.pipeline.stages import train
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.sealed import unsealed
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ChangedRunError, ClusterError, ConfigurationError, ModelError
from tests.preflight.test_plan import WIDE
from tests.support.images import PERCEPTRON, write_images
from tests.support.own_tasks import write_image_parquet
from tests.support.runs import config, file_bytes, run_named


def looked(settings: RunConfig, out: Path) -> None:
    look_before_preparing(settings, str(out), lambda _: WHOLE_RUN, WHOLE_RUN)


def test_published_data_is_not_prepared_for_what_is_refused(tmp_path: Path) -> None:
    write_image_parquet(tmp_path / "published")
    wrong = config(tmp_path / "published", "task=docs.examples.my_mlp:my_mlp", "curvature.layers=['nope']")
    with pytest.raises(ModelError, match="expected the pattern 'nope'"):
        looked(wrong, tmp_path / "out")
    looked(wrong.model_copy(update={"curvature": type(wrong.curvature)()}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_untrained_model_is_audited_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image_parquet(tmp_path / "published")
    settings, out = config(tmp_path / "published", task="docs.examples.my_mlp:my_mlp"), tmp_path / "out"
    audits = []

    def counted(*given: Any) -> dict[str, Any]:
        audits.append(audit_untrained(*given))
        return audits[-1]

    monkeypatch.setattr(train, "audit_untrained", counted)
    found = look_before_preparing(settings, str(out), lambda _: WHOLE_RUN, WHOLE_RUN)
    assert found == {"train": audits[0]}

    proofs = begin(open_run(settings, str(out)), WHOLE_RUN, before=Before(found=found))

    assert len(audits) == 1
    assert proofs.findings["train"] == audits[0]
    assert unsealed((out / run_directory.RUN_JSON).read_bytes())["audit"]["untrained"] == audits[0]
    # Nothing new is seen in the data that was prepared: its first rows are those that were looked at.
    begin(open_run(settings, str(out)), WHOLE_RUN)
    assert audits == [audits[0]] * 2


def test_prepared_data_is_left_to_the_run(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", train=200)
    looked(config(data, "curvature.layers=['nope']"), tmp_path / "out")


def test_this_machines_memory_decides_only_where_no_cluster_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_images(tmp_path / "data", train=200)
    monkeypatch.setattr("relatif.pipeline.preflight.plan.this_machine", lambda _: Machine(2, 0, 2**30))
    with opened(config(data, task=WIDE), str(tmp_path / "out")) as run:
        monkeypatch.setattr(looking, "joins_cluster", lambda: False)
        with pytest.raises(ConfigurationError, match="expected work that fits"):
            refuse_what_does_not_fit(run, PLANNED)
        refuse_what_does_not_fit(run, ["statistics", "class_agreement"])
        monkeypatch.setattr(looking, "joins_cluster", lambda: True)
        refuse_what_does_not_fit(run, PLANNED)


def test_a_cluster_that_does_not_answer_is_no_reason_not_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> bool:
        raise ClusterError("expected a cluster, found none; start it")

    data = write_images(tmp_path / "data", train=200)
    monkeypatch.setattr(looking, "joins_cluster", nobody)
    with opened(config(data, task=PERCEPTRON), str(tmp_path / "out")) as run:
        assert look(run, WHOLE_RUN).seconds is not None
        with pytest.raises(ClusterError):
            refuse_what_does_not_fit(run, PLANNED)


def test_what_another_run_made_is_refused_and_what_is_finished_is_told(tmp_path: Path, local_ray: None) -> None:
    data, out = write_images(tmp_path / "data", train=200), tmp_path / "out"
    settings = config(data, "train.tolerance=1e-3")
    run_named(settings, out, "train")
    before = file_bytes(out)
    with opened(settings, str(out)) as run:
        assert look(run, WHOLE_RUN).finished == ["train"]
    with (
        opened(config(data, "train.tolerance=1e-2"), str(out)) as run,
        pytest.raises(ChangedRunError, match=r"train\.tolerance: was 0.001, is now 0.01"),
    ):
        look(run, WHOLE_RUN)
    assert file_bytes(out) == before
