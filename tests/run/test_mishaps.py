"""What goes wrong at odd moments: each has its sentence, and nothing is lost or silently replaced."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.classifier import Classifier
from sightline.config import gather
from sightline.data.table import scan
from sightline.errors import DiskError, RunError, SettingsError
from sightline.run.evaluate import evaluate
from sightline.run.fit import Fit
from sightline.run.folder import RunFolder
from sightline.run.predict import predict
from sightline.run.train import TrainResult, resume, train

SMALL = ["model.name=sightline_tiny", "train.epochs=1", "data.size=16", "train.tensorboard=false"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, write_images: Callable[..., Path]) -> tuple[Path, TrainResult]:
    """A folder and a finished run on it; tests that change it copy it."""
    place = tmp_path_factory.mktemp("done")
    folder = write_images(place / "photos", {"blue": 12, "red": 10})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_CACHE", str(place / "cache"))
        return folder, train(folder, SMALL, run=place / "run")


def test_a_run_is_not_written_among_the_images(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="would lie among the images"):
        train(folder, SMALL, run=folder / "run")
    monkeypatch.chdir(folder)
    with pytest.raises(RunError, match=r"choose another place with --run"):
        train(".", SMALL)
    assert not (folder / "runs").exists()


def test_pictures_of_an_old_run_are_no_training_images(folder: Path) -> None:
    shutil.copytree(folder / "red", folder / "runs" / "old")
    (folder / "runs" / "old" / "ledger.jsonl").touch()
    found = scan(folder)
    assert found.classes == ("blue", "green", "red")
    assert found.skipped == {"in a run folder of sightline": 9}


def test_the_same_picture_under_two_labels_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "red" / "red-000.png", folder / "blue" / "copy.png")
    notes = train(folder, SMALL, run=tmp_path / "run").notes
    expected = (
        "One picture carries two labels, such as blue/copy.png = red/red-000.png: at least one of them is wrong. All are used as they are."
    )
    assert expected in notes


def test_a_run_that_stopped_before_its_data_was_ready_can_be_started_again(folder: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", folder)
    run.note("started", folder=str(folder), given={})
    (run.root / ".lock").touch()
    assert "test" in train(folder, SMALL, run=tmp_path / "run").metrics


@pytest.mark.parametrize("rubbish", ["", "{bad\n", '{"event": "started"}\n'])
def test_a_damaged_ledger_is_a_sentence(done: tuple[Path, TrainResult], tmp_path: Path, rubbish: str) -> None:
    shutil.copytree(done[1].run.root, tmp_path / "run")
    (tmp_path / "run" / "ledger.jsonl").write_text(rubbish)
    with pytest.raises(RunError, match=r"ledger.jsonl is damaged"):
        resume(tmp_path / "run", ["train.epochs=2"])


def test_without_its_checkpoints_a_trained_run_is_not_trained_from_the_start_again(done: tuple[Path, TrainResult], tmp_path: Path) -> None:
    shutil.copytree(done[1].run.root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(RunError, match="its checkpoints are gone"):
        resume(tmp_path / "run", ["train.epochs=2"])


def test_figures_of_two_folders_of_one_name_stay_apart(
    done: tuple[Path, TrainResult], tmp_path: Path, write_images: Callable[..., Path]
) -> None:
    shutil.copytree(done[1].run.root, tmp_path / "run")
    first, second = (write_images(tmp_path / place / "new", {"blue": n, "red": n}) for place, n in (("a", 3), ("b", 4)))
    for folder in (first, second, first):
        evaluate(tmp_path / "run", folder)
    places = sorted(p.name for p in (tmp_path / "run" / "evaluation").iterdir())
    assert places == ["new", "new-2", "test", "val"]


def test_a_folder_that_is_called_like_a_part_is_named_after_its_parent_and_two_tables_stay_apart(
    done: tuple[Path, TrainResult], tmp_path: Path, write_images: Callable[..., Path]
) -> None:
    shutil.copytree(done[1].run.root, tmp_path / "run")
    photos = write_images(tmp_path / "photos" / "test", {"blue": 3, "red": 3})
    for name in ("a", "b"):
        (photos / f"{name}.csv").write_text("path,label\nblue/blue-000.png,blue\n")
        evaluate(tmp_path / "run", photos / f"{name}.csv")
    evaluate(tmp_path / "run", photos, views=2)
    places = sorted(p.name for p in (tmp_path / "run" / "evaluation").iterdir())
    assert places == ["a", "b", "photos-test-tta", "test", "val"]


def test_figures_do_not_take_the_place_of_others(done: tuple[Path, TrainResult], tmp_path: Path, write_images: Callable[..., Path]) -> None:
    run = done[1].run.root
    elsewhere = write_images(tmp_path / "new", {"blue": 1, "red": 1})
    for source, out in ((elsewhere, "test"), (elsewhere, "val-tta"), (None, "val"), (None, "new")):
        with pytest.raises(RunError, match=r"is where a run looks for other figures of its own"):
            evaluate(run, source, out=run / "evaluation" / out)
    assert evaluate(run, out=run / "evaluation" / "test")["n"] == done[1].metrics["test"]["n"]
    with pytest.raises(SettingsError, match="--split must be test or val, not train"):
        evaluate(run, split="train")


def test_a_pipe_is_not_waited_for(done: tuple[Path, TrainResult], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert predict(done[1].run.root, [tmp_path / "pipe.png"]).answers.unreadable == {0: "not a regular file"}


def test_an_unfinished_run_says_how_it_is_finished(folder: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", folder)
    run.note("started", folder=str(folder), given={})
    with pytest.raises(RunError, match=r"has not finished: go on with `sightline train --resume"):
        Classifier.load(run.root)


@pytest.mark.parametrize("call", ["train", "resume"])
def test_a_full_disk_says_with_which_command_it_goes_on(
    done: tuple[Path, TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    place = tmp_path / "run"

    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "resume":
        shutil.copytree(done[1].run.root, place)
    monkeypatch.setattr(Fit, "_classifier", full)
    with pytest.raises(DiskError, match="There is no room left") as caught:
        _ = train(done[0], SMALL, run=place) if call == "train" else resume(place)
    expected = f"go on with `sightline train --resume {place}`" if call == "train" else "run the same command again"
    assert expected in str(caught.value)


def test_settings_may_be_a_mapping_and_are_never_a_text() -> None:
    assert gather({"train": {"epochs": 3}}, {"train.epochs": 2, "augment": {"policy": "none"}}) == {
        "train.epochs": 2,
        "augment.policy": "none",
    }
    with pytest.raises(SettingsError, match="as a list of KEY=VALUE texts"):
        gather(None, "train.epochs=2")


def test_results_are_one_line_each_and_labels_are_checked(done: tuple[Path, TrainResult]) -> None:
    folder, result = done
    classifier = result.classifier
    assert "\n" not in repr(result) + repr(classifier)
    paths = sorted((folder / "red").iterdir())[:2]
    with pytest.raises(ValueError, match="2 paths and 1 labels"):
        classifier.score(paths, ["red"])
    with pytest.raises(ValueError, match="no classes: pink"):
        classifier.score(paths, ["red", "pink"])
    with pytest.raises(ValueError, match="no files to score"):
        classifier.score([], [])
    assert 0 <= classifier.score(paths, ["red", "red"]) <= 1


def test_a_run_that_has_hardly_begun_is_not_taken_from_under_another_process(done: tuple[Path, TrainResult], tmp_path: Path) -> None:
    folder, _ = done
    begun = RunFolder.create(tmp_path / "run", folder)
    with begun.locked():
        begun.note("started", folder=str(folder), given={})
        with pytest.raises(RunError, match="Another process is training"):
            RunFolder.create(tmp_path / "run", folder)
        assert [path.name for path in sorted(begun.root.iterdir())] == [".lock", "ledger.jsonl"]
    (begun.root / "lr_range.png").touch()  # killed in the range test: nothing to go on from either
    RunFolder.create(tmp_path / "run", folder)
    assert [path.name for path in begun.root.iterdir()] == [".lock"]


def test_names_that_no_file_can_have_are_rows_of_their_own(done: tuple[Path, TrainResult], tmp_path: Path) -> None:
    folder, result = done
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    shutil.copy(folder / "red" / "red-000.png", odd)
    report = predict(result.run.root, [odd, "x" * 300, "nul\0.png", folder / "red" / "red-001.png"])
    assert [row["reason"] for row in report.rows()] == [
        None,
        "cannot be opened: File name too long",
        "cannot be opened: no file can have this name",
        None,
    ]
    report.write(tmp_path / "answers.csv")
    assert "caf\\xe9.png" in (tmp_path / "answers.csv").read_text()


def test_judges_that_are_gone_are_told(done: tuple[Path, TrainResult], tmp_path: Path) -> None:
    folder, result = done
    shutil.copytree(folder, tmp_path / "photos")
    run = train(tmp_path / "photos", SMALL, run=tmp_path / "run").run
    images = run.read_images()
    tests = images.filter(images["split"] == "test")["path"].to_list()
    (tmp_path / "photos" / tests[0]).unlink()
    told = resume(run.root, ["train.epochs=2"], accept_changes=True).notes
    assert f"1 of {len(tests)} images of test do not judge any more: figures do not compare with those before." in told
    assert "was read 2 times, and the run was changed in between" in run.report.read_text()
    assert "was read for nothing else" in result.run.report.read_text()
