"""Each technique of training in a real run: that it acts, that it is told, and that what it leaves behind is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sightline import files
from sightline.classifier import Classifier
from sightline.config import Remedy
from sightline.data.batches import Batch
from sightline.errors import ModelError, SettingsError
from sightline.evaluation.curves import range_picture
from sightline.evaluation.predictions import Predictions
from sightline.run.evaluate import evaluate
from sightline.run.predict import predict
from sightline.run.train import resume, train
from sightline.training.loop import Trainer
from sightline.training.stage import Stage

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = [
    *("model.name=sightline_tiny", "train.batch_size=64", "train.epochs=2"),
    *("device.threads=1", "device.precision=float32", "train.tensorboard=false", "train.judge=false"),
]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "classifier" / "model.safetensors")


def digest(run: Path) -> str:
    return files.digest(run / "classifier" / "model.safetensors")


def history(run: Path) -> pl.DataFrame:
    return pl.read_csv(run / "history.csv")


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in files.read_lines(run / "ledger.jsonl") if line["event"] == kind]


@pytest.fixture
def unbalanced(make_folder: Callable[..., Path]) -> Path:
    """40, 12 and 6 images: 28, 8 and 4 of them to train on."""
    return make_folder("unbalanced", {"blue": 40, "green": 12, "red": 6})


@contextmanager
def steps() -> Iterator[list[tuple[Stage, Batch]]]:
    """The stage and the batch of each step that is done meanwhile."""
    seen: list[tuple[Stage, Batch]] = []
    plain = Trainer._step

    def step(self: Trainer, stage: Stage, batch: Batch) -> int:
        seen.append((stage, batch))
        return plain(self, stage, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        yield seen


# ---- classes of unequal size -----------------------------------------------------------------------------------------

SETTLED: dict[str, dict[str, Any]] = {
    "auto": {"logit_adjustment": 1.0, "label_smoothing": 0.0},
    "none": {"label_smoothing": 0.1},
    "weights": {"class_weights": "inverse"},
    "effective_weights": {"class_weights": "effective"},
    "sampler": {"sampler": "balanced"},
    "sqrt_sampler": {"sampler": "sqrt"},
    "views": {"views_per_class": 28},
    "focal": {"loss": "focal"},
    "balanced_focal": {"loss": "focal", "class_weights": "effective"},
    "logit_adjustment": {"logit_adjustment": 1.0},
    "posthoc_adjustment": {"posthoc_adjustment": 1.0},
    "ldam": {"loss": "ldam"},
    "crt": {"sampler": "shuffle"},
}
PLAIN = {
    **{"loss": "cross_entropy", "class_weights": "none", "sampler": "shuffle"},
    **{"views_per_class": None, "logit_adjustment": 0.0, "posthoc_adjustment": 0.0},
}


@pytest.mark.parametrize("remedy", get_args(Remedy))
def test_every_remedy_trains_and_is_saved_by_what_it_sets(unbalanced: Path, tmp_path: Path, remedy: str) -> None:
    result = train(unbalanced, [*SMALL, "train.epochs=6", f"imbalance={remedy}", "augment.policy=none"], run=tmp_path / "run")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    expected = PLAIN | SETTLED[remedy]
    assert saved["imbalance"] == ("logit_adjustment" if remedy == "auto" else remedy)
    assert {name: saved["train"][name] for name in expected} == expected
    assert history(tmp_path / "run")["phase"].to_list() == ([1, 1, 1, 1, 2, 2] if remedy in ("ldam", "crt") else [1] * 6)
    assert not any("overcorrect" in note for note in result.notes)


def test_remedies_differ_in_what_an_epoch_shows(unbalanced: Path, tmp_path: Path) -> None:
    shown = {}
    for remedy in ("none", "views", "sampler"):
        with steps() as seen:
            train(unbalanced, [*SMALL, "train.epochs=1", f"imbalance={remedy}", "train.batch_size=100"], run=tmp_path / remedy)
        shown[remedy] = np.bincount(seen[0][1].labels.numpy()).tolist()
    assert shown["none"] == [28, 8, 4]
    assert shown["views"] == [28, 28, 28]
    assert sum(shown["sampler"]) == 40
    assert max(shown["sampler"]) < 22  # 13 of each are expected


def test_the_views_that_balance_an_image_are_different_ones(unbalanced: Path, tmp_path: Path) -> None:
    with steps() as seen:
        train(unbalanced, [*SMALL, "train.epochs=1", "imbalance=views", "train.batch_size=100"], run=tmp_path / "run")
    red = seen[0][1].inputs[seen[0][1].labels == 2]
    assert len(torch.unique(red.flatten(1), dim=0)) == len(red) == 28


def test_class_counts_come_from_the_train_part_alone(unbalanced: Path, tmp_path: Path) -> None:
    result = train(unbalanced, [*SMALL, "train.epochs=1", "imbalance=posthoc_adjustment"], run=tmp_path / "run")
    counts = np.array([28, 8, 4])
    np.testing.assert_allclose(result.classifier.shift, -np.log(counts / counts.sum()), rtol=1e-6)


def test_the_post_hoc_shift_travels_with_the_classifier(unbalanced: Path, tmp_path: Path) -> None:
    words = [*SMALL, "imbalance=posthoc_adjustment", "train.judge=true"]
    train(unbalanced, words, run=tmp_path / "run")
    kept = Predictions.load(tmp_path / "run" / "evaluation" / "test" / "predictions.parquet")
    loaded = Classifier.load(tmp_path / "run")
    assert loaded.shift is not None
    np.testing.assert_allclose(loaded.predict_proba([unbalanced / name for name in kept.ids]), kept.probabilities, atol=1e-3)
    metrics = evaluate(tmp_path / "run", split="val")
    assert metrics == files.read_json(tmp_path / "run" / "evaluation" / "val" / "metrics.json")


def test_the_shift_is_that_of_the_epoch_whose_weights_are_kept(unbalanced: Path, tmp_path: Path) -> None:
    recipe = {"phases": [{"from": 2, "train.posthoc_adjustment": 1.0}]}
    words = [*SMALL, "imbalance=none", "train.restore_best=false", "train.lr=1e-9"]  # the first epoch stays the best
    last = train(unbalanced, words, recipe=recipe, run=tmp_path / "last").classifier.shift
    assert last is not None
    best = train(unbalanced, [*words, "train.restore_best=true", "train.monitor=loss"], recipe=recipe, run=tmp_path / "best")
    first = history(tmp_path / "best").filter(pl.col("best"))["epoch"].to_list()[-1] == 1
    assert first == (best.classifier.shift is None)


def test_the_figures_of_each_epoch_have_the_shift_in_them(unbalanced: Path, tmp_path: Path) -> None:
    result = train(unbalanced, [*SMALL, "imbalance=posthoc_adjustment"], run=tmp_path / "run")
    best = history(tmp_path / "run").filter(pl.col("best"))[-1]
    assert result.metrics["val"]["balanced_accuracy"]["value"] == pytest.approx(best["val_balanced_accuracy"].item())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["imbalance=weights", "train.sampler=balanced"], "train.class_weights=inverse and train.sampler=balanced: each counters"),
        (["imbalance=views", "train.logit_adjustment=1"], "train.views_per_class=28 and train.logit_adjustment=1.0: each counters"),
        (["imbalance=logit_adjustment", "train.posthoc_adjustment=0.5"], "add up to 1.5"),
        (["imbalance=crt", "train.class_weights=inverse"], "train.class_weights=inverse and train.sampler=balanced: each"),
        (["imbalance=ldam"], "imbalance=ldam needs train.epochs=5 or more"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_told(unbalanced: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    epochs = 5 if words[0] == "imbalance=crt" else 1
    result = train(unbalanced, [*SMALL, f"train.epochs={epochs}", *words], run=tmp_path / "run")
    assert any(sentence in note for note in result.notes), result.notes


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train.focal_gamma=-1", "imbalance=focal"], r"train.focal_gamma must be a number from 0 to 20, not -1"),
        (["train.focal_gamma=1"], r"train.focal_gamma has no effect with train.loss=auto"),
        (["train.effective_beta=0.9", "imbalance=weights"], r"train.effective_beta has no effect"),
        (["train.label_smoothing=0.1", "imbalance=focal"], r"train.label_smoothing has no effect"),
        (["imbalance=sampler", "train.views_per_class=9"], r"both say which images an epoch shows"),
        (["imbalance=smote"], r"imbalance must be auto, none, weights"),
    ],
    ids=str,
)
def test_remedies_that_cannot_be_are_sentences_before_any_work(unbalanced: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        train(unbalanced, [*SMALL, *words], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_with_one_image_is_trained_on_and_not_evaluated(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder("one", {"blue": 12, "green": 12, "red": 1})
    for remedy in ("weights", "views", "ldam"):
        result = train(folder, [*SMALL, "train.epochs=1", f"imbalance={remedy}", "train.judge=true"], run=tmp_path / remedy)
        assert any("Too few images for test (not evaluated): red." in note for note in result.notes)
        assert result.metrics["test"]["classes"] == ["blue", "green", "red"]
        assert result.metrics["test"]["per_class"][2]["f1"]["value"] in (None, 0)


# ---- the craft of training -------------------------------------------------------------------------------------------


def test_the_averaged_weights_are_judged_and_kept(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.restore_best=false", "train.epochs=3", "train.batch_size=2"]
    plain = train(folder, [*words, "train.ema=null"], run=tmp_path / "plain")
    averaged = train(folder, words, run=tmp_path / "ema")  # the default of our own networks
    a, b = history(tmp_path / "plain"), history(tmp_path / "ema")
    assert a["train_loss"].equals(b["train_loss"])
    assert not a["val_loss"].equals(b["val_loss"])
    assert digest(tmp_path / "plain") != digest(tmp_path / "ema")
    last = b["val_accuracy"].to_list()[-1]
    assert averaged.metrics["val"]["accuracy"]["value"] == pytest.approx(last)
    assert plain.metrics["val"]["n"] == averaged.metrics["val"]["n"]


def test_averages_go_on_where_a_run_was_stopped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SMALL, "train.ema=0.9", "train.epochs=3", "train.restore_best=false"]
    train(folder, words, run=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finished", lambda self: self.progress.epoch >= 1 and stop())
        with pytest.raises(KeyboardInterrupt):
            train(folder, words, run=tmp_path / "run")
    resume(tmp_path / "run")
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def stop() -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize("words", [["augment.mixup=0.4"], ["augment.cutmix=1"], ["augment.mixup=0.4", "augment.cutmix=1"]], ids=str)
def test_mixed_pictures_have_two_labels(folder: Path, tmp_path: Path, words: list[str]) -> None:
    with steps() as seen:
        result = train(folder, [*SMALL, "train.batch_size=8", *words], run=tmp_path / "run")
    assert all(batch.partner is not None and batch.share is not None for _, batch in seen)
    shares = {float(batch.share[0]) for _, batch in seen if batch.share is not None}
    assert len(shares) > 4
    assert all(0 <= share <= 1 for share in shares)
    assert "val" in result.metrics


CRAFT = [
    *("augment.policy=trivial", "augment.erase=1", "augment.mixup=0.3", "train.layer_decay=0.5"),
    *("train.trunk_lr=0.1", "train.ema=0.5", "train.clip_norm=0.01", "train.warmup=1", "train.label_smoothing=0.3", "model.dropout=0.5"),
]
ONE = [*SMALL, "train.epochs=1", "train.schedule=constant"]


def test_each_technique_makes_another_classifier(folder: Path, tmp_path: Path) -> None:
    train(folder, ONE, run=tmp_path / "plain")
    digests = {digest(tmp_path / "plain")}
    for word in CRAFT:
        train(folder, [*ONE, word], run=tmp_path / word)
        digests.add(digest(tmp_path / word))
    assert len(digests) == 1 + len(CRAFT)


def test_an_image_has_as_many_views_as_were_asked_for(folder: Path, tmp_path: Path) -> None:
    def shown(words: list[str]) -> int:
        with steps() as seen:
            train(folder, [*SMALL, "train.epochs=3", *words], run=tmp_path / str(words))
        return len(torch.unique(pieces(seen).flatten(1), dim=0))

    assert [shown(["augment.views=1"]), shown(["augment.views=2"]), shown([])] == [30, 60, 90]


def test_all_techniques_at_once_are_repeated_by_config_yaml(folder: Path, tmp_path: Path) -> None:
    words = [*ONE, *CRAFT, "augment.views=1", "train.epochs=2", "train.accumulate=2", "train.batch_size=8"]
    train(folder, words, run=tmp_path / "a")
    train(folder, recipe=tmp_path / "a" / "config.yaml", run=tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_the_rates_of_early_layers_are_lower(folder: Path, tmp_path: Path) -> None:
    with steps() as seen:
        train(folder, [*SMALL, "train.epochs=1", "train.layer_decay=0.5", "train.trunk_lr=0.1"], run=tmp_path / "run")
    optimizer = seen[0][0].optimizer
    names = dict(zip(seen[0][0].names, (g["lr_scale"] for g in optimizer.param_groups for _ in g["params"]), strict=True))
    layers = list(dict.fromkeys(name.split(".")[1] for name in names if name.startswith("trunk.")))
    by_layer = {layer: {scale for name, scale in names.items() if name.startswith(f"trunk.{layer}.")} for layer in layers}
    assert all(len(scales) == 1 for scales in by_layer.values())
    ordered = [by_layer[layer].pop() for layer in sorted(by_layer, key=int)]
    assert ordered == sorted(ordered)
    assert ordered[-1] == pytest.approx(0.05)
    assert {scale for name, scale in names.items() if name.startswith("head.")} == {1.0}


def test_stochastic_depth_reaches_timms_networks_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    words = ["model.name=test_vit", "model.weights=none", "data.size=32", "model.drop_path=0.2", "train.layer_decay=0.7"]
    result = train(folder, [*SMALL[1:], *words], run=tmp_path / "run")
    drops = {module.drop_prob for module in result.classifier.network.modules() if hasattr(module, "drop_prob")}
    assert max(drops) == pytest.approx(0.2)
    with pytest.raises(SettingsError, match=r"model.drop_path has no effect with model.name=sightline_tiny"):
        train(folder, [*SMALL, "model.drop_path=0.2"], run=tmp_path / "other")


# ---- the range test --------------------------------------------------------------------------------------------------


def test_the_range_test_sets_the_rate_and_leaves_its_picture(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.evaluation.curves.range_picture", range_picture)  # the real one
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.find_lr=true", "train.epochs=1"], run=run)
    measured = events(run, "measured rate")[0]["lr"]
    assert 1e-5 < measured < 1
    assert (run / "lr_range.png").stat().st_size > 1000
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["lr"] == measured
    resume(run, ["train.epochs=2", "train.schedule=constant"])
    assert history(run)["lr"].to_list()[1] == measured
    assert len(events(run, "measured rate")) == 1


def test_the_range_test_leaves_the_training_as_it_would_have_been(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "train.lr=0.004", "train.ema=0.5"]
    train(folder, words, run=tmp_path / "plain")
    train(folder, [*words, "train.find_lr=true"], run=tmp_path / "tested")
    assert digest(tmp_path / "plain") == digest(tmp_path / "tested")


def test_a_range_test_that_finds_nothing_keeps_the_automatic_rate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.training.lr_range import Range

    found = Range((1e-4, 1e-3), (1.0, 1.0), (1.0, 1.0), None)
    monkeypatch.setattr(Trainer, "range_test", lambda self: found)
    run = tmp_path / "run"
    train(folder, [*SMALL, "train.find_lr=true"], run=run)
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["lr"] == 0.004
    resume(run, ["train.epochs=3"])
    assert len(history(run)) == 3


# ---- TensorBoard -----------------------------------------------------------------------------------------------------


def test_tensorboard_shows_numbers_histograms_views_and_figures(folder: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [word for word in SMALL if not word.startswith("train.tensorboard")]
    recipe = {"phases": [{"from": 3, "augment.policy": "none"}]}
    train(folder, [*words, "train.epochs=4", "train.log_weights=2", "train.trunk_lr=0.5"], recipe=recipe, run=tmp_path / "run")
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"histograms": 0, "images": 0})
    shown.Reload()
    tags = shown.Tags()
    assert {"train/loss", "train/accuracy", "val/loss", "val/macro_f1", "lr", "lr/x1", "lr/x0.5", "grad_norm"} <= set(tags["scalars"])
    assert [event.step for event in shown.Scalars("val/loss")] == [1, 2, 3, 4]
    names = set(weights(tmp_path / "run"))
    layers = {tag.partition("/")[2] for tag in tags["histograms"] if tag.startswith("weights/")}
    assert layers <= names
    assert layers == {tag.partition("/")[2] for tag in tags["histograms"] if tag.startswith("gradients/")}
    assert [event.step for event in shown.Histograms(f"weights/{min(layers)}")] == [1, 2, 4]
    assert set(tags["images"]) == {"train/views", "val/confusion", "val/f1_per_class"}
    assert [event.step for event in shown.Images("train/views")] == [1, 3]


def test_histograms_need_tensorboard(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train.log_weights has no effect with train.tensorboard=false"):
        train(folder, [*SMALL, "train.log_weights=1"], run=tmp_path / "run")


# ---- test-time augmentation ------------------------------------------------------------------------------------------


def test_test_time_augmentation_is_off_unless_asked_for_and_told_in_every_figure(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(folder, [*SMALL, "train.judge=true"], run=run)
    assert result.metrics["test"]["views"] == 1
    metrics = evaluate(run, views=5)
    assert metrics["views"] == 5
    assert files.read_json(run / "evaluation" / "test-tta" / "metrics.json") == metrics
    assert files.read_json(run / "evaluation" / "test" / "metrics.json") == result.metrics["test"]
    told, plain = ((run / "evaluation" / name / "report.txt").read_text() for name in ("test-tta", "test"))
    assert "test-time augmentation" in told.lower()
    assert "5 views" in told
    assert "augmentation" not in plain
    kept = Predictions.load(run / "evaluation" / "test-tta" / "predictions.parquet")
    report = predict(run, [folder / name for name in kept.ids], views=5)
    np.testing.assert_allclose(report.answers.probabilities, kept.probabilities, atol=1e-3)


def test_predict_takes_the_mean_of_views(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "run")
    one, three, again = (predict(tmp_path / "run", [folder], views=views).answers.probabilities for views in (1, 3, 3))
    assert one.shape == three.shape == (42, 3)
    assert not np.allclose(one, three)
    assert np.array_equal(three, again)
    for views in (0, 11):
        with pytest.raises(SettingsError, match="--tta takes 1 to 10 views"):
            predict(tmp_path / "run", [folder], views=views)


# ---- pipelines of the user's own -------------------------------------------------------------------------------------


@pytest.fixture
def saved_pipeline(tmp_path: Path) -> Path:
    """A small pipeline that Albumentations saved."""
    albumentations = pytest.importorskip("albumentations")
    pipeline = albumentations.Compose([albumentations.HorizontalFlip(p=0.5), albumentations.RandomBrightnessContrast(p=1.0)])
    path = tmp_path / "pipeline.yaml"
    albumentations.save(pipeline, str(path), data_format="yaml")
    return path


def pieces(seen: list[tuple[Stage, Batch]]) -> torch.Tensor:
    return torch.cat([batch.inputs for _, batch in seen])


def test_a_pipeline_of_albumentations_makes_the_training_views_and_repeats_them(folder: Path, tmp_path: Path, saved_pipeline: Path) -> None:
    words = [*SMALL, f"augment.albumentations={saved_pipeline}"]
    with steps() as seen:
        train(folder, [*words, "data.workers=1"], run=tmp_path / "a")
    with steps() as again:
        train(folder, [*words, "data.workers=2"], run=tmp_path / "b")
    assert torch.equal(pieces(seen), pieces(again))  # whoever did the work
    assert not torch.equal(seen[0][1].inputs, seen[1][1].inputs)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_a_pipeline_in_place_of_the_policy_leaves_it_nothing_to_do(folder: Path, tmp_path: Path, saved_pipeline: Path) -> None:
    for words in (["augment.policy=light"], ["augment.rotate=10"], ["augment.erase=0.1"]):
        with pytest.raises(SettingsError, match=f"{words[0].partition('=')[0]} has no effect"):
            train(folder, [*SMALL, f"augment.albumentations={saved_pipeline}", *words], run=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"augment.albumentations has no effect"):
        train(folder, [*SMALL, f"augment.albumentations={saved_pipeline}"], transform=same, run=tmp_path / "run")


def test_resume_refuses_a_pipeline_that_is_not_what_it_was(folder: Path, tmp_path: Path, saved_pipeline: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, f"augment.albumentations={saved_pipeline}", "data.workers=1"], run=run)
    text = saved_pipeline.read_text()
    saved_pipeline.write_text(text.replace("p: 0.5", "p: 0.9"))
    with pytest.raises(SettingsError, match=r"is not what it was when the run began"):
        resume(run, ["train.epochs=3"])
    saved_pipeline.write_text(text)
    resume(run, ["train.epochs=3"])
    assert len(history(run)) == 3


def test_a_pipeline_that_is_not_there_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.yaml cannot be read"):
        train(folder, [*SMALL, "augment.albumentations=nowhere.yaml"], run=tmp_path / "run")


def same(picture: Any) -> Any:
    return picture


def darker(picture: Any) -> Any:
    """A transform of torchvision's, of a name that the ledger can tell."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ColorJitter(brightness=(0.2, 0.6))])(picture)


def test_a_callable_of_torchvision_makes_the_training_views(folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "data.workers=1"]
    with steps() as dark:
        train(folder, words, transform=darker, run=tmp_path / "a")
    with steps() as plain:
        train(folder, [*words, "augment.policy=none"], run=tmp_path / "plain")
    assert pieces(dark).mean() < pieces(plain).mean() - 0.2
    with steps() as again:
        train(folder, words, transform=darker, run=tmp_path / "b")
    assert torch.equal(pieces(dark), pieces(again))
    with pytest.raises(SettingsError, match=r"augment.policy has no effect"):
        train(folder, [*words, "augment.policy=light"], transform=darker, run=tmp_path / "c")


def test_resume_wants_the_callable_that_the_run_was_started_with(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(folder, [*SMALL, "data.workers=1"], transform=darker, run=run)
    with pytest.raises(SettingsError, match=r"The run was started with transform=darker: give the same"):
        resume(run, ["train.epochs=3"])
    with pytest.raises(SettingsError, match=r"transform=darker"):
        resume(run, ["train.epochs=3"], transform=same)
    assert len(history(resume(run, ["train.epochs=3"], transform=darker).run.root)) == 3
    train(folder, SMALL, run=tmp_path / "plain")
    with pytest.raises(SettingsError, match=r"The run was started with transform=None"):
        resume(tmp_path / "plain", ["train.epochs=3"], transform=darker)


def test_a_callable_that_cannot_be_repeated_or_makes_no_picture_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)

    def forgetful(picture: Any) -> Any:
        return picture.rotate(float(draws.uniform(0, 360)))

    def nothing(picture: Any) -> Any:
        return None

    with pytest.raises(SettingsError, match=r"gives two pictures for one seed"):
        train(folder, [*SMALL, "data.workers=1"], transform=forgetful, run=tmp_path / "a")
    with pytest.raises(SettingsError, match=r"fails at .*png: it gives a NoneType, not a picture"):
        train(folder, [*SMALL, "data.workers=1"], transform=nothing, run=tmp_path / "b")


# ---- weights from elsewhere ------------------------------------------------------------------------------------------


def test_weights_that_sightline_trained_move_to_another_set(folder: Path, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    train(make_folder("others", {"black": 9, "white": 9}), SMALL, run=tmp_path / "source")
    file = tmp_path / "source" / "classifier" / "model.safetensors"
    words = [*SMALL, f"model.weights={file}", "model.freeze=trunk", "train.restore_best=false"]
    result = train(folder, words, run=tmp_path / "run")
    moved, kept = weights(tmp_path / "run"), weights(tmp_path / "source")
    assert all(torch.equal(moved[name], kept[name]) for name in kept if name.startswith("trunk."))
    assert any("head" in note or "class" in note for note in result.notes)
    file.unlink()
    resume(tmp_path / "run", ["train.epochs=3"])  # the checkpoint holds all of them


def test_weights_of_another_architecture_are_a_sentence_that_names_keys(folder: Path, tmp_path: Path) -> None:
    train(folder, SMALL, run=tmp_path / "source")
    file = tmp_path / "source" / "classifier" / "model.safetensors"
    words = [*SMALL[1:], "model.name=sightline_small", f"model.weights={file}"]
    with pytest.raises(ModelError, match=r"trunk|\.weight") as caught:
        train(folder, words, run=tmp_path / "run")
    assert "model.safetensors" in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "average"),
    [
        (("train.batch_size=2",), 0.98),  # 15 steps
        (("train.batch_size=2", "train.accumulate=2"), None),
        (("train.batch_size=2", "train.images_per_epoch=20"), None),
        (("train.ema=0.5",), 0.5),
        (("model.name=simpsons_residual", "train.batch_size=2"), None),
    ],
)
def test_the_average_is_settled_and_written_down(folder: Path, tmp_path: Path, words: tuple[str, ...], average: float | None) -> None:
    train(folder, [*SMALL, *words, "train.epochs=1", "train.judge=false"], run=tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["ema"] == average
