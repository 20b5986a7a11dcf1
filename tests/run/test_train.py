"""Training as a whole: the run folder, the settings, stopping and going on, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from sightline import files
from sightline.config import Config
from sightline.errors import DataError, DiskError, Interrupted, ModelError, RunError, SettingsError
from sightline.run.train import resume, train

SMALL = ["model.name=sightline_tiny", "train.epochs=2", "train.batch_size=8", "device.threads=1", "train.tensorboard=false"]
FIGURES = ("metrics.json", "predictions.parquet", "report.txt", "confusion.png")


def weights_digest(run: Path) -> str:
    return files.digest(run / "classifier" / "model.safetensors")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "sightline", *words]


def test_a_run_folder_holds_all_that_was_promised(folder: Path, tmp_path: Path) -> None:
    result = train(folder, [*SMALL, "train.tensorboard=true"], run=tmp_path / "run")
    found = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    for name in (
        "config.yaml",
        "environment.json",
        "images.parquet",
        "ledger.jsonl",
        "history.csv",
        "curves.png",
        "audit.json",
        "report.html",
        "embedding/test/embedding.html",
        "explain/test/explain.json",
        "evaluation/test/reliability.png",
        "classifier/model.safetensors",
        "classifier/model.json",
        *(
            f"evaluation/{split}/{name}"
            for split in ("val", "test")
            for name in ("metrics.json", "predictions.parquet", "report.txt", "confusion.png")
        ),
    ):
        assert name in found, name
    assert any(name.startswith("tensorboard/events") for name in found)
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) == 2
    assert len(list((tmp_path / "run" / "checkpoints").glob("best-*"))) == 1
    written = json.loads((tmp_path / "run" / "evaluation" / "test" / "metrics.json").read_text())
    assert written == result.metrics["test"]
    assert pl.read_csv(tmp_path / "run" / "history.csv")["epoch"].to_list() == [1, 2]


def test_every_file_found_is_used_or_quarantined_and_the_counts_add_up(folder: Path, tmp_path: Path) -> None:
    (folder / "red" / "broken.png").write_bytes((folder / "red" / "red-000.png").read_bytes()[:100])
    (folder / "red" / "rubbish.jpg").write_bytes(b"no picture")
    (folder / "red" / "notes.txt").write_text("hello")
    result = train(folder, SMALL, run=tmp_path / "run")
    images = result.run.read_images()
    assert len(images) == 44
    assert images["reason"].null_count() == 42
    assert images["split"].null_count() == 2
    assert any("44 images in 3 classes: 42 used" in note and "2 quarantined" in note for note in result.notes)
    assert any("1 not an image" in note for note in result.notes)


def test_the_users_folder_is_not_written_to(folder: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    train(folder, SMALL, run=tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_the_same_seed_gives_the_same_classifier_and_its_own_config_repeats_it(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "a")
    train(folder, [], recipe=tmp_path / "a" / "config.yaml", run=tmp_path / "b")
    train(folder, [*SMALL, "train.seed=1"], run=tmp_path / "c")
    assert weights_digest(tmp_path / "a") == weights_digest(tmp_path / "b") != weights_digest(tmp_path / "c")


def test_automatic_settings_are_saved_resolved(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "run")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["data"]["size"] == 16
    assert len(saved["data"]["mean"]) == 3
    assert saved["device"]["precision"] in ("bfloat16", "float32")
    assert isinstance(saved["train"]["lr"], float)
    assert "auto" not in str(saved)
    assert "momentum" not in saved["train"]  # adamw does not read it
    Config.load(tmp_path / "run" / "config.yaml")


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["data.size=28"], 20),
        (["data.size=22"], None),  # hardly smaller
        (["data.size=28", "model.name=skilltest_cnn"], None),
        (["data.size=28", "train.first_size=16"], 16),
    ],
)
def test_our_own_networks_see_small_pictures_first(folder: Path, tmp_path: Path, words: list[str], first: int | None) -> None:
    train(folder, [*SMALL, *words], run=tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["first_size"] == first


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["augment.policy=none", "augment.hue=0.1"], "augment.hue has no effect with augment.policy=none"),
        (["train.momentum=0.5"], "train.momentum has no effect with train.optimizer=muon"),
        (["train.schedule=constant", "train.factor=0.5"], "train.factor has no effect with train.schedule=constant"),
        (["model.head=[8]"], "model.head has no effect with model.name=sightline_tiny"),
        (["model.depth=3"], "model.depth has no effect with model.name=sightline_tiny"),
        (["data.fit=letterbox", "augment.fill=reflect"], "augment.fill has no effect with augment.policy=standard and data.fit=letterbox"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused_before_any_work(folder: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        train(folder, [*SMALL, *words], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pictures_grow_and_never_shrink(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train\.first_size=17 is more than data\.size=16: pictures grow to it, so give 16 at most"):
        train(folder, [*SMALL, "train.first_size=17"], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(folder, [*SMALL, "train.first_size=16", "train.report=false"], run=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"train\.first_size=20 is more than"):
        resume(tmp_path / "run", ["train.first_size=20", "train.epochs=3"])


def test_split_settings_are_refused_where_the_folder_brings_a_whole_split(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val", "test")):
        make_folder(f"own/{split}", {"red": 6, "blue": 6}, seed=i)
    with pytest.raises(SettingsError, match=r"split.seed has no effect"):
        train(tmp_path / "own", [*SMALL, "split.seed=3"], run=tmp_path / "run")
    result = train(tmp_path / "own", SMALL, run=tmp_path / "run")
    assert result.metrics["test"]["n"] == 12


def test_a_leaking_split_of_the_user_gives_every_figure_twice(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    own = make_folder("own/train", {"red": 8, "blue": 8}).parent
    make_folder("own/test", {"red": 5, "blue": 5}, seed=9)
    twin = own / "test" / "red" / "copy-under-another-name.bmp"
    Image.open(own / "train" / "red" / "red-000.png").save(twin)  # other bytes, the same pixels
    result = train(own, SMALL, run=tmp_path / "run")
    metrics = result.metrics["test"]
    assert metrics["n"] == 11
    assert metrics["leak_free"]["n"] == 10
    assert any("1 of test" in note for note in result.notes)


def test_without_a_test_part_nothing_judges(folder: Path, tmp_path: Path) -> None:
    result = train(folder, [*SMALL, "split.fractions=[0.8,0.2,0]"], run=tmp_path / "a")
    assert set(result.metrics) == {"val"}
    result = train(folder, [*SMALL, "train.judge=false"], run=tmp_path / "b")
    assert set(result.metrics) == {"val"}
    assert not (tmp_path / "b" / "evaluation" / "test").exists()


def test_a_timm_network_with_a_head_trains_and_loads_again(folder: Path, tmp_path: Path) -> None:
    words = ["model.name=resnet10t", "model.weights=none", "model.head=[12]", "model.head_dropout=0.1", "data.size=32"]
    result = train(folder, [*SMALL[1:], *words], run=tmp_path / "run")
    assert result.classifier.predict([folder / "red" / "red-000.png"])[0] in ("blue", "green", "red")


def test_pretrained_weights_that_cannot_be_had_are_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="resnet10t"):
        train(folder, ["model.name=resnet10t", "model.weights=pretrained", *SMALL[1:]], run=tmp_path / "run")


# ---- stopping and going on -------------------------------------------------------------------------------------------


def test_a_run_killed_in_the_middle_of_an_epoch_resumes_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.epochs=3", "train.checkpoint_minutes=0.00001"]  # a checkpoint after each step
    whole = train(folder, words, run=tmp_path / "whole")
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    run = tmp_path / "killed"
    with subprocess.Popen(command("train", str(folder), *words, "--run", str(run)), env=env, stderr=subprocess.PIPE) as process:
        _wait_for(lambda: any(p.name >= "step-000000005" for p in run.glob("checkpoints/step-*")), process)
        process.send_signal(signal.SIGKILL)
    assert not (run / "classifier").exists()
    resumed = resume(run)
    assert weights_digest(run) == weights_digest(whole.run.root)
    assert resumed.metrics["test"] == whole.metrics["test"]
    assert [e["event"] for e in files.read_lines(run / "ledger.jsonl")] == ["started", "resumed", "trained", "evaluated", "finished"]


def _wait_for(there: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not there():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_names_the_command_that_resumes(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    words = [*SMALL, "train.epochs=500"]
    with subprocess.Popen(
        command("train", str(folder), *words, "--run", str(run)), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        _wait_for(lambda: any(run.glob("checkpoints/step-*")), process)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"sightline train --resume {run}" in said.decode()
    assert "Traceback" not in said.decode()
    result = resume(run, ["train.epochs=1"])  # what was done stands; nothing more is asked
    assert "test" in result.metrics


def test_a_stop_inside_the_process_raises_interrupted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.training.loop import Interruption, Trainer

    def stop(self: Any, *_: Any) -> None:
        raise Interruption

    monkeypatch.setattr(Trainer, "fit", stop)
    with pytest.raises(Interrupted, match="--resume") as caught:
        train(folder, SMALL, run=tmp_path / "run")
    assert caught.value.exit_status == 130


def test_a_run_stopped_before_its_audit_has_it_when_it_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.training.loop import Interruption, Trainer

    def stop(self: Any, *_: Any) -> None:
        raise Interruption

    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    shot = coarse.resize((64, 64), Image.Resampling.BICUBIC)
    shot.save(folder / "red" / "shot.png")
    shot.save(folder / "red" / "twin.jpg", quality=60)
    words = [*SMALL, "train.report=true"]
    whole = train(folder, words, run=tmp_path / "whole").run
    near = next(found for found in files.read_json(whole.audit)["findings"] if found["name"] == "near-twins")
    assert near["count"] == 2
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", stop)
        with pytest.raises(Interrupted):
            train(folder, words, run=tmp_path / "run")
    assert not (tmp_path / "run" / "audit.json").exists()
    assert files.read_json(resume(tmp_path / "run").run.audit) == files.read_json(whole.audit)


def test_resume_may_change_how_long_it_trains_and_the_ledger_says_so(folder: Path, tmp_path: Path) -> None:
    train(folder, [*SMALL, "train.schedule=constant"], run=tmp_path / "run")
    resume(tmp_path / "run", ["train.epochs=4", "train.lr=1e-4"])
    history = pl.read_csv(tmp_path / "run" / "history.csv")
    assert history["epoch"].to_list() == [1, 2, 3, 4]
    assert history["lr"].to_list()[2:] == [1e-4, 1e-4]
    events = files.read_lines(tmp_path / "run" / "ledger.jsonl")
    assert [e["changed"] for e in events if e["event"] == "resumed"] == [{"train.epochs": 4, "train.lr": 1e-4}]


def test_a_phase_that_begins_after_the_last_epoch_asks_for_more_epochs(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"train.lr would hold from epoch 3 on, and epoch 2 is the last: raise train.epochs too"):
        resume(tmp_path / "run", ["train.lr=1e-4"])
    with pytest.raises(SettingsError, match=r"from epoch 3 on, and epoch 1 is the last"):
        resume(tmp_path / "run", ["train.lr=1e-4", "train.epochs=1"])


def test_settings_of_the_whole_run_hold_from_now_on_without_a_phase(folder: Path, tmp_path: Path) -> None:
    train(folder, [*SMALL, "train.judge=false"], run=tmp_path / "run")
    result = resume(tmp_path / "run", ["train.epochs=3", "train.judge=true", "train.patience=5", "device.threads=1"])
    assert "test" in result.metrics
    assert pl.read_csv(tmp_path / "run" / "history.csv")["phase"].to_list() == [1, 1, 1]
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (saved["train"]["epochs"], saved["train"]["patience"]) == (3, 5)
    assert "phases" not in saved


def test_resume_refuses_what_would_be_another_run(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"data.size cannot change on resume"):
        resume(tmp_path / "run", ["data.size=32"])
    with pytest.raises(SettingsError, match=r"train.momentum has no effect"):
        resume(tmp_path / "run", ["train.momentum=0.5", "train.epochs=3"])


def test_resume_refuses_images_that_changed_and_names_them(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "run")
    Image.new("RGB", (16, 16), (1, 2, 3)).save(folder / "red" / "red-000.png")
    with pytest.raises(RunError, match=r"red/red-000.png"):
        resume(tmp_path / "run")


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_a_run_folder_that_is_there_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "run")
    with pytest.raises(RunError, match="--resume"):
        train(folder, SMALL, run=tmp_path / "run")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        train(folder, SMALL, run=tmp_path / "notes.txt")


def test_two_trainings_do_not_share_a_run_folder(folder: Path, tmp_path: Path) -> None:
    result = train(folder, SMALL, run=tmp_path / "run")
    with result.run.locked(), pytest.raises(RunError, match="Another process"):
        resume(tmp_path / "run")


def test_folders_that_cannot_be_trained_on_are_sentences(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        train(tmp_path / "nowhere", SMALL, run=tmp_path / "run")
    with pytest.raises(DataError, match="only one class"):
        train(make_folder("one", {"red": 5}), SMALL, run=tmp_path / "run")
    with pytest.raises(DataError, match="fewer than 3 different images"):
        train(make_folder("few", {"red": 2, "blue": 2}), SMALL, run=tmp_path / "run")


def test_a_place_that_cannot_be_written_is_a_sentence(folder: Path) -> None:
    with pytest.raises(DiskError, match="cannot be made"):
        train(folder, SMALL, run="/proc/sightline-run")


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        resume(tmp_path)


@pytest.mark.parametrize(("optimizer", "imported"), [("auto", "False\n"), ("adamw", "True\n")])
def test_torchs_compiler_is_imported_only_for_optimizers_of_torch(folder: Path, tmp_path: Path, optimizer: str, imported: str) -> None:
    code = """
        import sys
        from sightline.run.train import train
        words = ["model.name=sightline_tiny", "train.epochs=1", "data.size=16", "train.report=false"]
        train(sys.argv[1], [*words, *sys.argv[3:]], run=sys.argv[2])
        print("torch._dynamo" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder), str(tmp_path / "run"), f"train.optimizer={optimizer}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == imported
