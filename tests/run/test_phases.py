"""Phases: settings that change in the middle of training, by recipe or on resume, and stopping within them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from sightline import files
from sightline.config import gather
from sightline.errors import Interrupted, RunError, SettingsError
from sightline.models.catalog import rebuild
from sightline.run.evaluate import evaluate
from sightline.run.stages import reset
from sightline.run.train import resume, train
from sightline.training.loop import Trainer
from sightline.training.stage import Stage

pytestmark = pytest.mark.usefixtures("no_pictures")

FAST = ["device.threads=1", "device.precision=float32", "train.tensorboard=false", "train.judge=false"]
SMALL = ["model.name=sightline_tiny", "train.batch_size=32", *FAST]  # one step an epoch
PLATEAU = {"from": 3, "imbalance": "views", "augment": {"policy": "standard", "rotate": 15}, "restart": "schedule"}
FLIP = {"from": 5, "augment": {"policy": "flip", "rotate": 0}}
STORY: dict[str, Any] = {
    "model": {"name": "sightline_tiny"},
    "augment": {"policy": "none"},
    "imbalance": "none",
    "train": {
        **{"epochs": 6, "batch_size": 16, "optimizer": "adamw", "amsgrad": True, "lr": 1e-3, "weight_decay": 0.01},
        **{"schedule": "plateau", "factor": 0.1, "plateau_patience": 0, "label_smoothing": 0, "monitor": "loss"},
        "checkpoint_minutes": 1e-5,  # after each step
    },
    "phases": [PLATEAU, FLIP],
}
"""Springfield's best network in small: plain, then balanced and augmented, then only flipped. 2 steps an epoch, then 3."""


def weights_digest(run: Path) -> str:
    return files.digest(run / "classifier" / "model.safetensors")


def history(run: Path) -> pl.DataFrame:
    return pl.read_csv(run / "history.csv")


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in files.read_lines(run / "ledger.jsonl") if line["event"] == kind]


@dataclass(frozen=True)
class Told:
    """A run that nobody disturbed, and the stage of each of its epochs."""

    folder: Path
    run: Path
    notes: tuple[str, ...]
    stages: list[Stage]


@contextmanager
def watched_stages() -> Iterator[list[Stage]]:
    """The stage of each epoch that is trained meanwhile."""
    seen: list[Stage] = []
    plain = Trainer._run_epoch

    def watched(self: Trainer, stage: Stage, *rest: Any) -> None:
        seen.append(stage)
        plain(self, stage, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_run_epoch", watched)
        yield seen


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> Told:
    """STORY, told once for all tests of this file."""
    place = tmp_path_factory.mktemp("story")
    folder = write_images(place / "photos", {"blue": 20, "green": 14, "red": 8})
    with pytest.MonkeyPatch.context() as patch, watched_stages() as stages:
        patch.setenv("SIGHTLINE_CACHE", str(place / "cache"))
        patch.setattr(os, "fsync", lambda descriptor: None)
        result = train(folder, FAST, recipe=STORY, run=place / "run")
    return Told(folder, place / "run", result.notes, stages)


# ---- from a recipe ---------------------------------------------------------------------------------------------------


def test_each_phase_begins_with_its_epoch(story: Told) -> None:
    assert history(story.run)["phase"].to_list() == [1, 1, 2, 2, 3, 3]
    policies = [stage.batches.policy for stage in story.stages]  # type: ignore[attr-defined]
    assert [policy.flip for policy in policies] == [0, 0, 0.5, 0.5, 0.5, 0.5]
    assert [policy.rotate for policy in policies] == [0, 0, 15, 15, 0, 0]
    assert [policy.hue for policy in policies] == [0, 0, 0.02, 0.02, 0, 0]


def test_views_of_each_class_are_as_many_as_the_largest_has_images_in_train(story: Told) -> None:
    shown = [sum(len(positions) for positions, _ in stage.batches.order.epoch(0)) for stage in story.stages]  # type: ignore[attr-defined]
    assert shown == [30, 30, 42, 42, 42, 42]  # of 14, 10 and 6 train images


def test_a_restarted_plateau_forgets_its_drops_and_one_that_goes_on_does_not(story: Told) -> None:
    lr = history(story.run)["lr"].to_list()
    plateaus = [stage.schedule.plateau for stage in story.stages]
    assert plateaus[1] is not plateaus[2]
    assert lr[2] == 1e-3
    assert plateaus[5] is not None
    assert plateaus[4] is plateaus[5] is not plateaus[3]
    values = history(story.run)["val_loss"].to_list()[2:]
    assert plateaus[5].best == pytest.approx(min(values), rel=1e-3)  # phase 3 went on with what phase 2 had


def test_the_best_weights_on_validation_are_restored(story: Told) -> None:
    table = history(story.run)
    best = table.filter(pl.col("best"))["epoch"].max()
    assert events(story.run, "trained")[0]["best_epoch"] == best == table["epoch"][int(np.argmin(table["val_loss"]))]  # type: ignore[call-overload]
    metrics = files.read_json(story.run / "evaluation" / "val" / "metrics.json")
    assert metrics["accuracy"]["value"] == pytest.approx(table["val_accuracy"][best - 1])  # type: ignore[operator]


def test_notes_and_curves_name_the_phases(story: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "Phase 2 begins with epoch 3: imbalance=views, augment.policy=standard, augment.rotate=15." in story.notes
    assert "Phase 3 begins with epoch 5: augment.policy=flip, augment.rotate=0." in story.notes
    assert (story.run / "curves.png").stat().st_size > 1000
    drawn: list[Any] = []
    monkeypatch.setattr("sightline.evaluation.curves.curves_picture", lambda *given: drawn.append(given))
    train(story.folder, [*SMALL, "train.epochs=2"], recipe={"phases": [{"from": 2, "train.lr": 1e-3}]}, run=tmp_path / "run")
    assert drawn[0][2] == [(2, "train.lr=0.001")]


def test_config_yaml_keeps_the_phases_and_repeats_the_run_bit_for_bit(story: Told, tmp_path: Path) -> None:
    saved = yaml.safe_load((story.run / "config.yaml").read_text())
    assert saved["imbalance"] == "none"
    assert saved["phases"] == [{**PLATEAU, "train.views_per_class": 14}, FLIP]
    train(story.folder, recipe=story.run / "config.yaml", run=tmp_path / "again")
    assert weights_digest(tmp_path / "again") == weights_digest(story.run)
    assert history(tmp_path / "again").drop("seconds").equals(history(story.run).drop("seconds"))


@pytest.mark.parametrize(
    "changed",
    [
        {"train.optimizer": "sgd"},  # another automatic rate
        {"train.loss": "focal"},  # no label smoothing
        {"imbalance": "logit_adjustment"},
        {"model.freeze": "trunk"},
        {"train.label_smoothing": 0.2, "train.trunk_lr": 0.1, "augment.mixup": 0.3},
    ],
    ids=str,
)
def test_config_yaml_repeats_a_phase_that_changes_what_is_settled(folder: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    recipe = {"phases": [{"from": 2, **changed}]}
    train(folder, [*SMALL, "model.weights=none", "train.epochs=3", "train.restore_best=false"], recipe=recipe, run=tmp_path / "a")
    train(folder, recipe=tmp_path / "a" / "config.yaml", run=tmp_path / "b")
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")


def test_the_optimizers_state_goes_over_into_the_next_phase_unless_it_is_restarted(folder: Path, tmp_path: Path) -> None:
    def steps(name: str, **phase: Any) -> list[int]:
        with watched_stages() as stages:
            words = [*SMALL, "train.epochs=2", "train.optimizer=adamw"]
            train(folder, words, recipe={"phases": [{"from": 2, **phase}]}, run=tmp_path / name)
        return sorted({int(state["step"]) for state in stages[1].optimizer.state.values()})

    assert steps("carried", **{"train.weight_decay": 0.1}) == [2]
    assert steps("restarted", **{"train.weight_decay": 0.1, "restart": "optimizer"}) == [1]
    assert steps("other", **{"train.optimizer": "adam"}) == [1]
    assert steps("amsgrad", **{"train.amsgrad": True}) == [1]  # the old state lacks what it needs


def test_a_schedule_spans_the_phases_that_do_not_restart_it(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.epochs=4", "train.schedule=cosine", "train.lr=0.01"]
    whole = [0.01 * (1 + np.cos(np.pi * (step / 4))) / 2 for step in (0, 1, 2, 3)]
    train(folder, words, recipe={"phases": [{"from": 3, "augment.policy": "flip"}]}, run=tmp_path / "on")
    assert history(tmp_path / "on")["lr"].to_list() == pytest.approx(whole)
    half = [0.01 * (1 + np.cos(np.pi * (step / 2))) / 2 for step in (0, 1)]
    train(folder, words, recipe={"phases": [{"from": 3, "augment.policy": "flip", "restart": "schedule"}]}, run=tmp_path / "anew")
    assert history(tmp_path / "anew")["lr"].to_list() == pytest.approx([*half, *half])


def test_a_phase_unfreezes_the_trunk(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "model.weights=none", "train.epochs=2", "model.freeze=trunk"]
    with watched_stages() as stages:
        train(folder, words, recipe={"phases": [{"from": 2, "model.freeze": "none", "train.trunk_lr": 0.1}]}, run=tmp_path / "run")
    assert all(name.startswith("head.") for name in stages[0].names)
    assert any(name.startswith("trunk.") for name in stages[1].names)
    assert {group["lr_scale"] for group in stages[1].optimizer.param_groups} == {1.0, 0.1}


def test_the_average_of_the_weights_begins_anew_with_a_new_head(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.epochs=2", "train.ema=0.9999", "train.restore_best=false"]
    phase = {"from": 2, "train.reset_head": True, "train.lr": 1e-12, "train.schedule": "constant"}
    train(folder, words, recipe={"phases": [phase]}, run=tmp_path / "run")
    head = rebuild(files.read_json(tmp_path / "run" / "classifier" / "model.json")["spec"]).head
    reset(head, seed=0, first=2)
    average = load_file(tmp_path / "run" / "classifier" / "model.safetensors")
    for name, value in head.state_dict().items():  # with such a rate the new head stays as it is
        assert torch.allclose(average[f"head.{name}"], value, atol=1e-6), name


@pytest.mark.parametrize("remedy", ["ldam", "crt"])
def test_config_yaml_repeats_the_phase_of_a_remedy(folder: Path, tmp_path: Path, remedy: str) -> None:
    train(folder, [*SMALL, "train.epochs=6", f"imbalance={remedy}", "train.restore_best=false"], run=tmp_path / "a")
    train(folder, recipe=tmp_path / "a" / "config.yaml", run=tmp_path / "b")
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b")
    assert history(tmp_path / "b")["phase"].to_list() == [1, 1, 1, 1, 2, 2]


# ---- what is wrong with phases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        ([{"from": 2, "train.lr": 0.1}, {"from": 2, "train.lr": 0.2}], r"Phase 3 begins with epoch 2, the one before it with 2"),
        ([{"from": 3, "train.lr": 0.1}, {"from": 2, "train.lr": 0.2}], r"phases follow one another"),
        ([{"from": 9, "train.lr": 0.1}], r"Phase 2 begins with epoch 9, after the last: raise train.epochs=4"),
        ([{"from": 2, "train.learning_rate": 0.1}], r"In phase 2: There is no setting train.learning_rate. Did you mean train.lr"),
        ([{"from": 2, "train.epochs": 9}], r"Phase 2 changes train.epochs, which holds for a whole run"),
        ([{"from": 2, "data.size": 32}], r"Phase 2 changes data.size, which holds for a whole run"),
        ([{"train.lr": 0.1}], r"Phase 2 needs `from`"),
        ([{"from": 1, "train.lr": 0.1}], r"Phase 2 needs `from`"),
        ([{"from": 2}], r"Phase 2 changes nothing"),
        ([{"from": 2, "restart": "engine", "train.lr": 0.1}], r"`restart` of phase 2 may be optimizer, schedule"),
        ([{"from": 2, "train.lr": -1}], r"train.lr must be"),
        ([{"from": 2, "augment.policy": "none", "augment.rotate": 9}], r"augment.rotate has no effect with augment.policy=none"),
        ([{"from": 2, "train.focal_gamma": 3.0}], r"train.focal_gamma has no effect with train.loss=auto"),
        ([{"from": 2, "train.prefix": "off"}], r"train.prefix has no effect with model.freeze=none"),
        ([{"from": 2, "model.freeze": "until:9"}], r"model.freeze=until:9: until: takes a layer of the trunk"),
        ([{"from": 2, "imbalance": "crt"}], r"imbalance=crt is for a whole run.*\{from: 2, model.freeze: trunk"),
        ([{"from": 2, "imbalance": "ldam"}], r"imbalance=ldam is for a whole run.*train.class_weights: effective"),
        ([{"from": 2, "imbalance": "sampler", "train.views_per_class": 9}], r"both say which images an epoch shows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_phase_that_cannot_be_is_a_sentence_before_any_work(
    folder: Path, tmp_path: Path, phases: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(Exception, match=sentence) as caught:
        train(folder, [*SMALL, "model.weights=none", "train.epochs=4"], recipe={"phases": phases}, run=tmp_path / "run")
    assert caught.type.__name__ in ("SettingsError", "ModelError")
    assert not (tmp_path / "run").exists()


def test_a_new_head_is_for_a_phase_not_for_the_beginning(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.epochs=2", "train.reset_head=true"]
    for recipe in ({}, {"phases": [{"from": 2, "train.lr": 1e-3}]}):
        with pytest.raises(SettingsError, match=r"train.reset_head has no effect with a run's first phase"):
            train(folder, words, recipe=recipe, run=tmp_path / "run")


# ---- stopping and going on -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends the process, as far as the run can tell: nothing is saved any more."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Training ends within the step of this number, before its update."""
    plain = Trainer._update

    def update(self: Trainer, stage: Stage) -> None:
        if self.progress.step == step:
            raise Killed
        plain(self, stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        yield


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """Ctrl-C comes within the step of this number, counted from 1 over those that are done meanwhile."""
    done: list[int] = []
    plain = Trainer._update

    def update(self: Trainer, stage: Stage) -> None:
        done.append(1)
        plain(self, stage)

    @contextmanager
    def signals() -> Iterator[Callable[[], bool]]:
        yield lambda: len(done) >= step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        patch.setattr("sightline.run.fit._stop_signals", signals)
        yield


STEPS = [1, 4, 6, 12]  # within phase 1, where 2 begins, within 2, within 3


@pytest.mark.parametrize("step", STEPS)
def test_a_run_killed_in_any_phase_resumes_to_the_same_weights(story: Told, tmp_path: Path, step: int) -> None:
    with killed_at(step), pytest.raises(Killed):
        train(story.folder, FAST, recipe=STORY, run=tmp_path / "run")
    resume(tmp_path / "run")
    assert weights_digest(tmp_path / "run") == weights_digest(story.run)
    assert history(tmp_path / "run").drop("seconds").equals(history(story.run).drop("seconds"))


def test_a_run_stopped_once_in_each_phase_resumes_to_the_same_weights(story: Told, tmp_path: Path) -> None:
    with stopped_at(1), pytest.raises(Interrupted, match="everything is saved"):
        train(story.folder, FAST, recipe=STORY, run=tmp_path / "run")
    with stopped_at(6), pytest.raises(Interrupted, match="everything is saved"):
        resume(tmp_path / "run")
    assert [event["step"] for event in events(tmp_path / "run", "interrupted")] == [1, 7]
    resume(tmp_path / "run")
    assert weights_digest(tmp_path / "run") == weights_digest(story.run)


# ---- settings that change on resume ----------------------------------------------------------------------------------


def test_settings_given_on_resume_are_one_more_phase(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.epochs=2", "augment.policy=none"], run=run)
    resume(run, ["train.epochs=3", "augment.policy=flip", "train.optimizer=sgd"])
    resume(run, ["train.epochs=5", "imbalance=sampler"])
    assert history(run)["phase"].to_list() == [1, 1, 2, 3, 3]
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["train"]["epochs"] == 5
    assert saved["augment"]["policy"] == "none"
    assert saved["phases"] == [
        {"from": 3, "augment.policy": "flip", "train.optimizer": "sgd", "train.lr": 0.1},
        {"from": 4, "imbalance": "sampler", "train.sampler": "balanced"},
    ]
    told = events(run, "resumed")
    assert [event["epoch"] for event in told] == [3, 4]
    assert [event["changed"] for event in told] == [
        {"train.epochs": 3, "augment.policy": "flip", "train.optimizer": "sgd"},
        {"train.epochs": 5, "imbalance": "sampler"},
    ]


def test_a_change_on_resume_is_the_same_as_the_phase_of_a_recipe(story: Told, tmp_path: Path) -> None:
    with stopped_at(10), pytest.raises(Interrupted):  # when epoch 4 is done
        train(story.folder, FAST, recipe={**STORY, "phases": [PLATEAU]}, run=tmp_path / "run")
    resume(tmp_path / "run", ["augment.policy=flip", "augment.rotate=0"])
    assert weights_digest(tmp_path / "run") == weights_digest(story.run)


def test_an_interrupted_epoch_begins_again_with_the_changed_settings(folder: Path, tmp_path: Path) -> None:
    with stopped_at(3), pytest.raises(Interrupted):
        train(folder, [*SMALL, "train.epochs=3", "train.batch_size=16"], run=tmp_path / "run")
    with watched_stages() as stages:
        resume(tmp_path / "run", ["train.batch_size=30"])
    assert history(tmp_path / "run")["phase"].to_list() == [1, 2, 2]
    assert [len(stage.batches) for stage in stages] == [1, 1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train.lr=1e-4"], r"train.lr would hold from epoch 3 on, and epoch 2 is the last: raise train.epochs too"),
        (["train.monitor=loss", "train.epochs=4"], r"train.monitor cannot change on resume"),
        (["train.find_lr=true", "train.epochs=4"], r"train.find_lr cannot change on resume"),
        (["train.seed=1", "train.epochs=4"], r"train.seed cannot change on resume"),
        (["phases=[{from: 3, train.lr: 0.1}]", "train.epochs=4"], r"phases cannot change on resume: what is given makes a phase"),
        (["train.rate=1", "train.epochs=4"], r"There is no setting train.rate"),
        (["augment.rotate=5", "augment.policy=none", "train.epochs=4"], r"augment.rotate has no effect with augment.policy=none"),
        (["imbalance=crt", "train.epochs=4"], r"imbalance=crt is for a whole run"),
        (["model.freeze=until:9", "train.epochs=4"], r"until: takes a layer of the trunk"),
    ],
)
def test_a_change_that_cannot_be_leaves_the_run_as_it_was(story: Told, words: list[str], sentence: str) -> None:
    run = story.run.parent / "short"
    if not run.exists():
        train(story.folder, [*SMALL, "model.weights=none", "train.epochs=2"], run=run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(Exception, match=sentence):
        resume(run, words)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_settings_that_change_within_the_first_epoch_begin_it_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(1), pytest.raises(Interrupted):
        train(folder, [*SMALL, "train.epochs=2", "train.batch_size=16"], run=tmp_path / "run")
    resume(tmp_path / "run", ["train.batch_size=4", "train.lr=1e-3"])
    assert "The first epoch begins again, with what is changed." in capsys.readouterr().err
    train(folder, [*SMALL, "train.epochs=2", "train.batch_size=4", "train.lr=1e-3"], run=tmp_path / "other")
    assert weights_digest(tmp_path / "run") == weights_digest(tmp_path / "other")
    settled, fresh = (gather(tmp_path / name / "config.yaml", []) for name in ("run", "other"))
    room = {"data.store_gb": None}  # half of the disk that was free
    assert settled | room == fresh | room


def test_what_holds_for_the_whole_run_changes_within_the_first_epoch(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(1), pytest.raises(Interrupted):
        train(folder, [*SMALL, "train.epochs=2", "train.batch_size=16"], run=tmp_path / "run")
    resume(tmp_path / "run", ["train.epochs=1"])
    assert len(history(tmp_path / "run")) == 1
    assert "begins again" not in capsys.readouterr().err
    resume(tmp_path / "run")
    assert "Training is over after epoch 1, so the classifier is only judged again" in capsys.readouterr().err


def test_a_run_that_patience_ended_says_so_where_a_change_would_do_nothing(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.epochs=9", "train.patience=1", "train.lr=1e-9"], run=run)
    done = len(history(run))
    assert done < 9
    for words in (["train.lr=1e-3"], ["train.epochs=20"]):
        with pytest.raises(SettingsError, match=r"train.patience=1 ended the run"):
            resume(run, words)
    resume(run, ["train.lr=1e-3", "train.patience=null", f"train.epochs={done + 1}"])
    assert history(run)["phase"].to_list() == [1] * done + [2]


def test_a_phase_that_patience_left_out_is_told(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.epochs=9", "train.patience=1", "train.lr=1e-9"]
    result = train(folder, words, recipe={"phases": [{"from": 8, "train.lr": 1e-3}]}, run=tmp_path / "run")
    assert f"train.patience ended training with epoch {len(history(tmp_path / 'run'))}, before phase 2 began." in result.notes


def test_more_epochs_leave_the_late_phase_of_a_remedy_where_it_began(folder: Path, tmp_path: Path) -> None:
    train(folder, [*SMALL, "train.epochs=5", "imbalance=ldam"], run=tmp_path / "run")
    with watched_stages() as stages:
        resume(tmp_path / "run", ["train.epochs=10"])  # of which ldam would begin with epoch 9
    assert history(tmp_path / "run")["phase"].to_list() == [1] * 4 + [2] * 6
    assert stages[0] is stages[1]  # opened once; the optimizer's state is kept
    resume(tmp_path / "run", ["train.epochs=11"])
    assert history(tmp_path / "run")["phase"].to_list() == [1] * 4 + [2] * 7


# ---- images that changed ---------------------------------------------------------------------------------------------


def parts(run: Path) -> dict[str, str]:
    """The part of each image that is used."""
    return dict(pl.read_parquet(run / "images.parquet").drop_nulls("split").select("path", "split").iter_rows())


def paint(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


def test_resume_into_changed_images_names_them_and_can_go_on_with_them(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.epochs=1"], run=run)
    before = parts(run)
    gone = next(path for path, part in before.items() if part == "train" and path.startswith("blue"))
    twin = next(path for path, part in before.items() if part == "test")
    other = next(path for path, part in before.items() if part == "val")
    (folder / gone).unlink()
    paint(folder / other, 1)
    paint(folder / "red" / "new.png", 2)
    Image.open(folder / twin).save(folder / Path(twin).parent / "twin.bmp")
    with pytest.raises(RunError, match="accept-changes") as caught:
        resume(run, ["train.epochs=2"])
    assert gone in str(caught.value)
    assert "and 1 more" in str(caught.value)
    result = resume(run, ["train.epochs=2"], accept_changes=True)
    now = parts(run)
    assert now.pop("red/new.png") == "train"
    assert f"{Path(twin).parent}/twin.bmp" not in now  # its twin judges, and the judge stays as it was
    assert {**now, gone: "train"} == before
    assert sorted(events(run, "resumed")[0]["images"]) == sorted([gone, other, "red/new.png", f"{Path(twin).parent}/twin.bmp"])
    assert any("43 images in 3 classes: 42 used (30 train, 6 val, 6 test), 0 quarantined, 1 left out" in note for note in result.notes)
    assert len(history(run)) == 2


def test_accepted_images_are_the_runs_own_from_then_on(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.epochs=1"], run=run)
    for i in range(9):  # so many that a fresh split would deal the old ones otherwise
        paint(folder / "red" / f"new-{i}.png", i)
    resume(run, ["train.epochs=2"], accept_changes=True)
    accepted = parts(run)
    assert evaluate(run, split="val")["n"] == sum(part == "val" for part in accepted.values())
    resume(run, ["train.epochs=3"])
    assert parts(run) == accepted
    assert events(run, "resumed")[-1]["images"] == []


def test_a_test_image_that_became_a_copy_of_a_train_image_counts_as_leaked(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.epochs=1"], run=run)
    train_image, test_image = (next(path for path, part in parts(run).items() if part == name) for name in ("train", "test"))
    (folder / test_image).write_bytes((folder / train_image).read_bytes())
    result = resume(run, ["train.judge=true"], accept_changes=True)
    assert result.metrics["test"]["leak_free"]["n"] == result.metrics["test"]["n"] - 1


def test_a_class_that_is_new_is_another_run(folder: Path, tmp_path: Path) -> None:
    train(folder, [*SMALL, "train.epochs=1"], run=tmp_path / "run")
    (folder / "black").mkdir()
    for i in range(4):
        paint(folder / "black" / f"{i}.png", i)
    with pytest.raises(RunError, match="The classes are not those"):
        resume(tmp_path / "run", ["train.epochs=2"], accept_changes=True)
