"""`tune` from end to end on tiny networks: what trials share, what they die of, who judges, and what goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sightline.errors import Interrupted, SettingsError, StudyError, TrainingError
from sightline.run import trial as trials
from sightline.run import tune as tuning
from sightline.run.train import train
from sightline.run.tune import tune
from sightline.tuning.storage import open_storage

FIXED: dict[str, Any] = {
    "model.name": "sightline_tiny",
    "train.epochs": 2,
    "train.batch_size": 16,
    "device.threads": 1,
    "imbalance": "none",
}
CHEAP = {"train.tensorboard": False, "train.report": False}
SPACE = {"train.lr": {"from": 1e-3, "to": 1e-2, "log": True}}

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(autouse=True)
def _no_study_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.tuning.pictures.draw_pictures", lambda *given: [])
    monkeypatch.setattr("sightline.run.tune_end.write_pages", lambda run, screen: None)


def search(folder: Path, place: Path, count: int = 2, more: dict[str, Any] | None = None, **words: Any) -> Any:
    settings = {"tune.seeds": 1, "tune.startup": 2, "tune.space": SPACE} if (more or {}).get("tune.refit", True) else {"tune.space": SPACE}
    return tune(folder, FIXED | CHEAP | settings | (more or {}), trials=count, study=str(place / "study"), storage="journal", **words)


NO_REFIT = {"tune.refit": False}


# ---- the whole road --------------------------------------------------------------------------------------------------


def test_a_study_ends_with_the_best_trained_again_and_judged_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[Path] = []
    scan = trials.scan
    monkeypatch.setattr(trials, "scan", lambda source: scanned.append(source) or scan(source))
    result = search(folder, tmp_path, 3, {"tune.seeds": 2})
    study = tmp_path / "study"
    assert len(scanned) == 1  # for all trials together
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    values = [trial.values[0] for trial in result.trials]
    assert result.best.values[0] == max(values)
    best = pl.read_csv(study / "best" / "history.csv")
    assert best["val_macro_f1"].max() == pytest.approx(max(values), abs=1e-12)  # the same seed, so the same weights
    assert result.metrics["seeds"]["seeds"] == [0, 1]
    assert "test" in result.metrics
    told = result.text()
    assert "val chose among 3 trials" in told
    assert "test judged once" in told
    rows = list(csv.DictReader((study / "trials.csv").read_text().splitlines()))
    assert [float(row["val_macro_f1"]) for row in rows] == values
    assert "Validation chose among 3 trials" in (study / "tune.html").read_text()
    json.dumps(result.to_json())


def test_no_trial_reads_test_or_writes_what_it_does_not_need(folder: Path, tmp_path: Path) -> None:
    search(folder, tmp_path, 2, NO_REFIT)
    for number in (0, 1):
        place = tmp_path / "study" / "trials" / f"{number:04d}"
        assert {path.name for path in place.iterdir()} == {
            ".lock",
            "config.yaml",
            "environment.json",
            "history.csv",
            "images.parquet",
            "ledger.jsonl",
        }
        ledger = [json.loads(line) for line in (place / "ledger.jsonl").read_text().splitlines()]
        assert "evaluated" not in {event["event"] for event in ledger}
    one, other = (tmp_path / "study" / "trials" / name / "images.parquet" for name in ("0000", "0001"))
    assert one.stat().st_ino == other.stat().st_ino


def test_the_same_call_goes_on_and_a_better_trial_takes_over(folder: Path, tmp_path: Path) -> None:
    first = search(folder, tmp_path, 1)
    again = search(folder, tmp_path, 1)
    assert again.metrics == json.loads(json.dumps(first.metrics))
    assert [trial.number for trial in again.trials] == [0]
    more = search(folder, tmp_path, 4)
    assert len(more.trials) == 4
    if more.best.number != 0:
        assert (tmp_path / "study" / "best-was-0").is_dir()
        assert "Test has judged 2 times" in more.text()


def test_the_recipes_own_values_are_the_first_trial(folder: Path, tmp_path: Path) -> None:
    result = search(folder, tmp_path, 1, NO_REFIT | {"train.lr": 0.005})
    assert result.trials[0].chosen == {"train.lr": 0.005}


def test_a_network_of_another_size_shares_the_split(folder: Path, tmp_path: Path) -> None:
    result = search(folder, tmp_path, 2, NO_REFIT | {"tune.space": {"data.size": [16, 12]}, "tune.sampler": "random", "data.size": 16})
    sizes = {trial.chosen["data.size"] for trial in result.trials}
    assert all(trial.state == "complete" for trial in result.trials)
    assert sizes <= {16, 12}
    splits = [pl.read_parquet(tmp_path / "study" / "trials" / name / "images.parquet")["split"] for name in ("0000", "0001")]
    assert splits[0].equals(splits[1], null_equal=True)


def test_a_default_space_fits_the_network(folder: Path, tmp_path: Path) -> None:
    given = FIXED | CHEAP | {"tune.refit": False, "train.lr": 0.004}
    result = tune(folder, given, trials=1, study=str(tmp_path / "study"))
    assert set(result.trials[0].chosen) == {"train.weight_decay", "train.label_smoothing", "augment.policy", "model.dropout"}  # lr is fixed


def test_folds_judge_a_trial_and_leave_test_alone(folder: Path, tmp_path: Path) -> None:
    result = search(folder, tmp_path, 1, NO_REFIT | {"tune.folds": 3, "train.epochs": 1})
    (trial,) = result.trials
    assert trial.facts["folds"] == 3
    assert trial.values[0] == pytest.approx(sum(trial.steps.values()) / 3)
    tables = [pl.read_parquet(tmp_path / "study" / "trials" / "0000" / f"fold-{k}" / "images.parquet") for k in (1, 2, 3)]
    chosen = [path for table in tables for path in table.filter(pl.col("split") == "val")["path"]]
    study = pl.read_parquet(tmp_path / "study" / "images.parquet")
    assert sorted(chosen) == sorted(study.filter(pl.col("split").is_in(["train", "val"]))["path"])
    assert all(set(t.filter(pl.col("split") == "test")["path"]) == set(study.filter(pl.col("split") == "test")["path"]) for t in tables)


def test_several_objectives_give_a_front(folder: Path, tmp_path: Path) -> None:
    result = search(folder, tmp_path, 2, NO_REFIT | {"tune.objective": ["val_macro_f1", "parameters", "val_ece"]})
    assert len(result.trials[0].values) == 3
    assert result.best in result.front
    assert "that no other one beats" in result.text()


# ---- what trials die of ------------------------------------------------------------------------------------------------


def test_a_trial_with_an_inert_setting_fails_with_its_reason_and_the_study_goes_on(folder: Path, tmp_path: Path) -> None:
    space = {"train.optimizer": ["adamw", "sgd"]}
    result = search(folder, tmp_path, 2, NO_REFIT | {"tune.space": space, "tune.sampler": "grid", "train.momentum": 0.8})
    ends = {trial.chosen["train.optimizer"]: (trial.state, trial.reason) for trial in result.trials}
    assert ends["sgd"] == ("complete", None)
    assert ends["adamw"][0] == "failed"
    assert "train.momentum has no effect with train.optimizer=adamw" in ends["adamw"][1]


def test_a_space_with_a_setting_that_no_trial_would_read_is_refused(folder: Path, tmp_path: Path) -> None:
    space: dict[str, Any] = {"train.momentum": [0.5, 0.9], "train.weight_decay": [0.01, 0.1]}
    with pytest.raises(SettingsError, match=r"tune\.space has train\.momentum, which would do nothing in any trial"):
        search(folder, tmp_path / "adamw", 1, NO_REFIT | {"tune.space": space, "train.optimizer": "adamw"})
    assert not (tmp_path / "adamw" / "study" / "trials").exists()
    either = {"tune.space": {"train.momentum": [0.5, 0.9], "train.optimizer": ["sgd", "adamw"]}, "tune.sampler": "grid"}
    result = search(folder, tmp_path / "either", 4, NO_REFIT | either)
    assert sorted(trial.state for trial in result.trials) == ["complete", "complete", "failed", "failed"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingError("The loss is not finite in epoch 1, batch 1."), "The loss is not finite"),
        (MemoryError(), "too little memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), "too little memory"),
        (RuntimeError("shapes cannot be multiplied"), "RuntimeError: shapes cannot be multiplied"),
    ],
)
def test_what_a_trial_dies_of_is_its_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    fit, calls = trials.Fit.fit, []

    def fail_first(self: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return fit(self)

    monkeypatch.setattr(trials.Fit, "fit", fail_first)
    result = search(folder, tmp_path, 2, NO_REFIT)
    assert [trial.state for trial in result.trials] == ["failed", "complete"]
    assert result.trials[0].reason.startswith(reason)


def test_a_study_without_any_finished_trial_says_why(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> Any:
        raise TrainingError("The loss is not finite.")

    monkeypatch.setattr(trials.Fit, "fit", fail)
    with pytest.raises(StudyError, match=r"Of 2 trials none was finished\. The last one failed: The loss is not finite"):
        search(folder, tmp_path, 2, NO_REFIT)


def test_a_trial_stopped_by_the_user_goes_on_from_its_checkpoint(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search(folder, tmp_path / "whole", 1, NO_REFIT)

    def stop_after_one(self: Any, row: Any) -> None:
        if row["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("sightline.run.tune_screen.Quiet.epoch", stop_after_one)
        with pytest.raises(Interrupted, match=r"Stopped in trial 0; everything is saved\. Go on with: sightline tune .*--trials 1"):
            search(folder, tmp_path, 1, NO_REFIT)
    result = search(folder, tmp_path, 1, NO_REFIT)
    assert [trial.state for trial in result.trials] == ["complete"]
    assert result.trials[0].steps == whole.trials[0].steps  # bit for bit
    ledger = (tmp_path / "study" / "trials" / "0000" / "ledger.jsonl").read_text()
    assert "resumed" in ledger


# ---- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words", "sentence"),
    [
        ({}, {"count": 0}, "--trials must be 1 or more, not 0"),
        ({"tune.space": {"train.lrr": [1, 2]}}, {}, r"no setting train\.lrr"),
        ({"tune.objective": ["val_macro_f1", "seconds"], "tune.direction": "maximize"}, {}, "give one for each"),
        ({"tune.percentile": 30}, {}, r"tune\.percentile has no effect with tune\.pruner=auto"),
        ({"tune.multivariate": False, "tune.sampler": "random"}, {}, r"tune\.(multivariate|startup) has no effect"),
        ({"tune.pruner": "wilcoxon"}, {}, r"give tune\.folds"),
        ({"tune.pruner": "median", "tune.objective": ["val_loss", "seconds"]}, {}, "compares one figure"),
        ({"tune.sampler": "grid"}, {}, "give train.lr a `step`"),
        ({"tune.sampler": "cmaes"}, {}, "two ranges or more"),
        ({"train.seeds": 3}, {}, r"tune\.seeds"),
        ({"split.folds": 3}, {}, r"tune\.folds"),
        ({}, {"timeout": "soon"}, "--timeout takes seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_before_an_image_is_read(
    tmp_path: Path, more: dict[str, Any], words: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        search(tmp_path / "no such folder", tmp_path, more=more, **words)


def test_another_space_or_other_images_under_the_same_name_are_refused(
    folder: Path, tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    search(folder, tmp_path, 1, NO_REFIT)
    with pytest.raises(StudyError, match=r"setting train\.epochs was 2, now it is 3"):
        search(folder, tmp_path, 1, NO_REFIT | {"train.epochs": 3})
    with pytest.raises(StudyError, match=r"space train\.lr was"):
        search(folder, tmp_path, 1, NO_REFIT | {"tune.space": {"train.lr": [0.1, 0.2]}})
    other = make_folder("other", {"blue": 20, "green": 14, "red": 8}, seed=1)
    with pytest.raises(StudyError, match="gone, new, changed"):
        search(other, tmp_path, 1, NO_REFIT)
    next(iter((folder / "red").iterdir())).unlink()
    with pytest.raises(StudyError, match="gone, new, changed"):
        search(folder, tmp_path, 1, NO_REFIT)


def test_trials_of_a_study_kept_elsewhere_are_not_taken_for_its_own(folder: Path, tmp_path: Path) -> None:
    search(folder, tmp_path, 1, NO_REFIT)
    study = tmp_path / "study"
    journal = study / "study.journal"
    kept = journal.read_bytes()
    journal.unlink()  # or another --storage: it has no such study, and trial 0 would go on in trials/0000 with the old settings
    with pytest.raises(StudyError, match=r"study has trials that the journal .* knows nothing of: give the --storage"):
        search(folder, tmp_path, 1, NO_REFIT | {"tune.space": {"train.lr": [1e-5, 1e-6]}})
    journal.write_bytes(kept)
    assert [trial.state for trial in search(folder, tmp_path, 2, NO_REFIT).trials] == ["complete"] * 2


def test_a_call_that_failed_leaves_no_split_behind(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="grid"):  # the default space, known once the images are
        search(folder, tmp_path, 1, NO_REFIT | {"tune.space": {}, "tune.sampler": "grid", "split.fractions": [0.4, 0.3, 0.3]})
    search(folder, tmp_path, 1, NO_REFIT)
    search(folder, tmp_path / "fresh", 1, NO_REFIT)
    one, other = (pl.read_parquet(place / "study" / "images.parquet")["split"] for place in (tmp_path, tmp_path / "fresh"))
    assert one.to_list() == other.to_list()


def test_training_leaves_a_recipes_tune_section_aside_but_refuses_a_word_of_it(folder: Path, tmp_path: Path) -> None:
    recipe = FIXED | CHEAP | {"tune": {"space": SPACE, "sampler": "gp"}, "train.judge": False}
    train(folder, [], recipe=recipe, run=tmp_path / "run")
    assert "tune" not in (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(SettingsError, match=r"tune\.sampler has no effect with `sightline train`"):
        train(folder, ["tune.sampler=gp"], recipe=recipe, run=tmp_path / "run2")
    with pytest.raises(SettingsError, match=r"tune\.sampler must be"):
        train(folder, [], recipe={"tune": {"sampler": "magic"}}, run=tmp_path / "run3")


# ---- processes -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_worker_killed_in_a_trial_is_taken_over_by_another(folder: Path, tmp_path: Path, storage: str) -> None:
    study = tmp_path / "study"
    words = [f"{path}={json.dumps(value) if not isinstance(value, str) else value}" for path, value in (FIXED | CHEAP | NO_REFIT).items()]
    words += ["train.epochs=40", "tune.space={train.lr: {from: 1e-3, to: 1e-2, log: true}}"]
    place = [] if storage == "sqlite" else ["--storage", storage]
    command = [sys.executable, "-m", "sightline", "tune", str(folder), "--trials", "2", "--study", str(study), *place, *words]
    first = subprocess.Popen(command, stderr=subprocess.PIPE)
    history = study / "trials" / "0000" / "history.csv"
    until = time.monotonic() + 240
    while not history.exists() or len(history.read_text().splitlines()) < 4:
        assert first.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    second = subprocess.Popen(command, stderr=subprocess.PIPE)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    told = second.communicate(timeout=500)[1].decode()
    assert second.returncode == 0, told
    assert "the trial goes on from its checkpoint" in told
    ledger = [json.loads(line)["event"] for line in (study / "trials" / "0000" / "ledger.jsonl").read_text().splitlines()]
    assert "resumed" in ledger
    assert ledger[-1] == "finished"
    assert len(history.read_text().splitlines()) == 41
    rows = list(csv.DictReader((study / "trials.csv").read_text().splitlines()))
    assert sorted(row["state"] for row in rows) == ["complete", "complete", "lost"]


def test_the_dashboard_reads_the_storage(folder: Path, tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    tune(folder, FIXED | CHEAP | NO_REFIT | {"tune.space": SPACE}, trials=1, study=str(tmp_path / "study"))
    storage = open_storage(None, tmp_path / "study", print)
    app = dashboard.wsgi(storage.kept)
    answer: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}
    body = b"".join(
        app({**environ, "wsgi.input": None, "wsgi.errors": sys.stderr}, lambda status, headers, info=None: answer.append(status))
    )
    storage.close()
    assert answer == ["200 OK"]
    assert b'"study"' in body
    assert tuning.PAUSE > 0
