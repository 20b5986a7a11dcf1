"""A frozen part stays as it is, and keeping what it computes changes no figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sightline import files
from sightline.errors import ModelError, SettingsError
from sightline.evaluation.predictions import Predictions
from sightline.randomness import seed_torch
from sightline.run import prefix
from sightline.run.train import resume, train
from sightline.training.loop import Trainer
from sightline.training.stage import Stage

pytestmark = pytest.mark.usefixtures("no_pictures")

FAST = ["model.weights=none", "device.threads=1", "device.precision=float32", "train.tensorboard=false", "train.judge=false"]
TINY = ["model.name=sightline_tiny", "train.batch_size=16", "augment.views=2", *FAST]
TIMM = ["model.name=test_resnet", "data.size=32", "train.batch_size=16", "augment.views=2", *FAST]
NETWORKS = {"ours": (TINY, "until:2"), "timm": (TIMM, "until:layer3")}
FIGURES = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1"]


def history(run: Path) -> pl.DataFrame:
    return pl.read_csv(run / "history.csv")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "classifier" / "model.safetensors")


def digest(run: Path) -> str:
    return files.digest(run / "classifier" / "model.safetensors")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The views an image of each time that features are computed, the val part's one view included."""
    seen: list[int] = []
    plain = prefix._compute

    def compute(*given: Any) -> Iterator[torch.Tensor]:
        seen.append(len({view for view, _ in given[-1]}))
        yield from plain(*given)

    monkeypatch.setattr(prefix, "_compute", compute)
    return seen


# ---- what is frozen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["on", "off"])
@pytest.mark.parametrize("network", NETWORKS)
def test_frozen_weights_and_batch_norms_do_not_move_and_all_others_do(folder: Path, tmp_path: Path, network: str, kept: str) -> None:
    words, until = NETWORKS[network]
    first: dict[str, torch.Tensor] = {}
    plain = Trainer.fit

    def fit(self: Trainer, *given: Any) -> Any:
        first.update({name: value.clone() for name, value in self.network.state_dict().items()})
        return plain(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        train(folder, [*words, "train.epochs=2", f"model.freeze={until}", f"train.prefix={kept}"], run=tmp_path / "run")
    last = weights(tmp_path / "run")
    layers = list(dict.fromkeys(name.split(".")[1] for name in first if name.startswith("trunk.")))
    layer = until.removeprefix("until:")
    frozen = {name for name in first if name.startswith("trunk.") and layers.index(name.split(".")[1]) < layers.index(layer)}
    assert any(name.endswith("running_mean") for name in frozen)
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert not moved & frozen
    assert moved == set(first) - frozen


def test_a_frozen_trunk_trains_the_head_alone(folder: Path, tmp_path: Path) -> None:
    train(folder, [*TINY, "train.epochs=1", "model.freeze=trunk", "train.restore_best=false", "train.lr=1e-2"], run=tmp_path / "a")
    train(folder, [*TINY, "train.epochs=2", "model.freeze=trunk", "train.restore_best=false", "train.lr=1e-2"], run=tmp_path / "b")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert {name.partition(".")[0] for name in a if not torch.equal(a[name], b[name])} == {"head"}


# ---- the same figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["trunk", "until"])
@pytest.mark.parametrize("network", NETWORKS)
def test_with_and_without_the_kept_prefix_the_history_is_the_same(folder: Path, tmp_path: Path, network: str, freeze: str) -> None:
    words, until = NETWORKS[network]
    words = [*words, "train.epochs=4", f"model.freeze={until if freeze == 'until' else freeze}"]
    for kept in ("on", "off"):
        train(folder, [*words, f"train.prefix={kept}"], run=tmp_path / kept)
    on, off = history(tmp_path / "on"), history(tmp_path / "off")
    np.testing.assert_allclose(on[FIGURES].to_numpy(), off[FIGURES].to_numpy(), atol=1e-3)
    assert on["lr"].equals(off["lr"])
    np.testing.assert_allclose(on["grad_norm"], off["grad_norm"], rtol=1e-3)


def test_samplers_weights_dropout_and_averages_work_on_kept_features_too(folder: Path, tmp_path: Path) -> None:
    words = [*TIMM, "model.freeze=trunk", "model.head=[8]", "model.head_dropout=0.3", "train.epochs=3", "imbalance=views"]
    words += ["train.class_weights=effective", "train.ema=0.9", "train.accumulate=2", "train.clip_norm=1", "augment.views=3"]
    for kept in ("on", "off"):
        train(folder, [*words, f"train.prefix={kept}"], run=tmp_path / kept)
    on, off = history(tmp_path / "on"), history(tmp_path / "off")
    np.testing.assert_allclose(on[FIGURES].to_numpy(), off[FIGURES].to_numpy(), atol=1e-3)


def test_the_classifier_of_a_kept_prefix_is_the_whole_network(folder: Path, tmp_path: Path) -> None:
    result = train(folder, [*TINY, "train.epochs=3", "model.freeze=until:2", "train.prefix=on"], run=tmp_path / "run")
    kept = Predictions.load(tmp_path / "run" / "evaluation" / "val" / "predictions.parquet")
    again = result.classifier.predict_proba([folder / name for name in kept.ids])
    np.testing.assert_allclose(again, kept.probabilities, atol=1e-3)
    best = history(tmp_path / "run").filter(pl.col("best"))["val_accuracy"][-1]
    assert result.metrics["val"]["accuracy"]["value"] == pytest.approx(best)


# ---- when it is kept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "views"),
    [
        (["train.epochs=5"], [1, 1]),  # one view for every five epochs, and the val part
        (["train.epochs=10"], [2, 1]),
        (["train.epochs=10", "augment.policy=none"], [1, 1]),
        (["train.epochs=4"], []),
        (["train.epochs=5", "augment.views=3"], [3, 1]),
        (["train.epochs=5", "augment.views=5"], []),  # would cost as much as it saves
        (["train.epochs=5", "train.prefix=off"], []),
        (["train.epochs=2", "train.prefix=on"], [1, 1]),
    ],
    ids=str,
)
def test_it_is_kept_where_it_pays(folder: Path, tmp_path: Path, computed: list[int], words: list[str], views: list[int]) -> None:
    quick = [word for word in TINY if not word.startswith(("augment.views", "train.batch_size"))]
    train(folder, [*quick, "train.batch_size=64", "model.freeze=trunk", *words], run=tmp_path / "run")
    assert computed == views


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model.freeze=trunk", "augment.mixup=0.2"], r"train.prefix=on: augment.mixup and augment.cutmix mix pictures"),
        (["model.freeze=trunk", "augment.cutmix=1"], r"train.prefix=on: augment.mixup and augment.cutmix mix pictures"),
        (["model.freeze=[trunk.0]"], r"train.prefix=on: A list of frozen layers has no one place"),
        ([], r"train.prefix has no effect with model.freeze=none"),
    ],
)
def test_a_prefix_that_cannot_be_kept_is_a_sentence_before_any_work(folder: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        train(folder, [*TINY, "train.epochs=2", "train.prefix=on", *words], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["model.freeze=until:layer9"], ["model.freeze=[layer9]"], ["model.freeze=everything"]], ids=str)
def test_a_layer_that_the_network_does_not_have_is_a_sentence_before_any_work(folder: Path, tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(ModelError, match=r"model.freeze"):
        train(folder, [*TIMM, "train.epochs=2", *words], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_random_weights_are_not_frozen_unless_that_was_asked_for(folder: Path, tmp_path: Path) -> None:
    words = [word for word in TINY if word != "model.weights=none"]
    with pytest.raises(ModelError, match=r"model.freeze=trunk would keep random weights.*model.weights=none keeps them knowingly"):
        train(folder, [*words, "model.freeze=trunk"], run=tmp_path / "run")


def test_the_user_is_told_what_is_kept_and_when_it_pays(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder, [*TIMM, "train.epochs=4", "model.freeze=trunk", "train.prefix=on"], run=tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "The frozen part is kept: 2 views an image, 0 MB" in said
    assert "which pays from epoch 3 on (train.prefix=off computes it each epoch)" in said  # 66 images against 36 an epoch


# ---- the cache -------------------------------------------------------------------------------------------------------

KEEP = [*TINY, "train.epochs=1", "model.freeze=until:2", "train.prefix=on"]


CHANGES: dict[str, tuple[list[str], list[int]]] = {
    "nothing": ([], []),
    "the rest of the recipe": (["train.lr=0.01", "train.epochs=2", "imbalance=views", "train.batch_size=8", "train.optimizer=sgd"], []),
    "the policy": (["augment.policy=flip"], [2]),  # the val part has none
    "the views": (["augment.views=3"], [3]),
    "the size": (["data.size=24"], [2, 1]),
    "the normalisation": (["data.mean=[0.5,0.5,0.5]"], [2, 1]),
    "the cut": (["model.freeze=until:1"], [2, 1]),
    "the seed": (["train.seed=1"], [2, 1]),  # other first weights
}


def test_features_are_computed_once_for_what_they_depend_on(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    train(folder, KEEP, run=tmp_path / "first")
    assert computed == [2, 1]
    for what, (words, again) in CHANGES.items():
        computed.clear()
        train(folder, [*KEEP, *words], run=tmp_path / what)
        assert computed == again, what


def test_the_second_run_from_the_cache_gives_the_same_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, [*KEEP, "train.epochs=2"], run=tmp_path / "first")

    def compute(*given: Any) -> Iterator[torch.Tensor]:
        raise AssertionError("features are computed again")
        yield

    monkeypatch.setattr(prefix, "_compute", compute)
    train(folder, [*KEEP, "train.epochs=2"], run=tmp_path / "second")
    assert digest(tmp_path / "first") == digest(tmp_path / "second")


def test_a_changed_image_misses_the_cache(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    train(folder, [*KEEP, "data.mean=[0.4,0.4,0.4]", "data.std=[0.2,0.2,0.2]"], run=tmp_path / "first")
    images = pl.read_parquet(tmp_path / "first" / "images.parquet")
    path = folder / images.filter(pl.col("split") == "val")["path"][0]
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    train(folder, [*KEEP, "data.mean=[0.4,0.4,0.4]", "data.std=[0.2,0.2,0.2]"], run=tmp_path / "second")
    assert 1 in computed[2:]


def test_other_weights_miss_the_cache(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    words = [*KEEP, "model.weights=FILE", "data.mean=[0.4,0.4,0.4]", "data.std=[0.2,0.2,0.2]"]
    for seed in (1, 2):
        train(folder, [*TINY, "train.epochs=1", f"train.seed={seed}"], run=tmp_path / f"source-{seed}")
        file = tmp_path / f"source-{seed}" / "classifier" / "model.safetensors"
        train(folder, [word.replace("model.weights=FILE", f"model.weights={file}") for word in words], run=tmp_path / f"run-{seed}")
    assert computed == [2, 1, 2, 1]


def test_a_damaged_cache_is_built_again(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    train(folder, KEEP, run=tmp_path / "first")
    for file in (files.cache_folder() / "prefix").glob("*/features.bin"):
        file.write_bytes(file.read_bytes()[:-1])
    train(folder, KEEP, run=tmp_path / "second")
    assert computed == [2, 1, 2, 1]
    assert digest(tmp_path / "first") == digest(tmp_path / "second")


# ---- with phases and on resume ---------------------------------------------------------------------------------------

STAGED = {
    "model": {"freeze": "trunk"},
    "train": {"epochs": 4, "prefix": "on", "checkpoint_minutes": 1e-5},
    "phases": [{"from": 3, "model.freeze": "until:2", "train.trunk_lr": 0.5}],
}


def test_a_run_killed_while_its_prefix_is_kept_resumes_to_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    train(folder, TINY, recipe=STAGED, run=tmp_path / "whole")
    assert computed == [2, 1, 2, 1]
    for step in (1, 4, 5):  # within phase 1, where 2 begins, within 2
        run = tmp_path / str(step)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_update", killed_at(step))
            with pytest.raises(KeyboardInterrupt):
                train(folder, TINY, recipe=STAGED, run=run)
        resume(run)
        assert digest(run) == digest(tmp_path / "whole")
    assert computed == [2, 1, 2, 1]  # all others came from the cache


def killed_at(step: int) -> Callable[[Trainer, Stage], None]:
    """What does each update, but ends the process before the one of this number."""
    plain = Trainer._update

    def update(trainer: Trainer, stage: Stage) -> None:
        if trainer.progress.step == step:
            raise KeyboardInterrupt
        plain(trainer, stage)

    return update


def test_two_phases_with_one_frozen_part_compute_it_once(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    recipe = {**STAGED, "phases": [{"from": 3, "train.lr": 1e-3}]}
    train(folder, TINY, recipe=recipe, run=tmp_path / "run")
    assert computed == [2, 1]


def test_config_yaml_repeats_what_was_kept_in_one_phase_and_not_in_the_others(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    phases = [{"from": 2, "model.freeze": "trunk"}, {"from": 7, "model.freeze": "none"}]
    words = [word for word in TINY if not word.startswith("augment.views")]
    train(folder, [*words, "train.epochs=8", "train.restore_best=false"], recipe={"phases": phases}, run=tmp_path / "a")
    assert computed == [1, 1]
    train(folder, recipe=tmp_path / "a" / "config.yaml", run=tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_crt_trains_its_new_head_on_kept_features(folder: Path, tmp_path: Path, computed: list[int]) -> None:
    words = [*TINY, "train.batch_size=64", "imbalance=crt", "train.epochs=26", "augment.views=1", "augment.policy=none"]
    train(folder, words, run=tmp_path / "run")
    assert history(tmp_path / "run")["phase"].to_list() == [1] * 20 + [2] * 6
    assert computed == [1, 1]


def test_the_check_of_a_prefix_leaves_the_random_draws_alone(folder: Path, tmp_path: Path) -> None:
    words = [*TINY, "train.epochs=1", "model.freeze=trunk"]
    for kept in ("on", "off"):
        seed_torch(99, "anything")
        train(folder, [*words, f"train.prefix={kept}", "train.lr=1e-12", "train.restore_best=false"], run=tmp_path / kept)
    on, off = weights(tmp_path / "on"), weights(tmp_path / "off")
    assert all(torch.allclose(on[name], off[name], atol=1e-6) for name in on)


def test_a_class_with_one_image_can_be_kept_too(make_folder: Callable[..., Path], tmp_path: Path, computed: list[int]) -> None:
    folder = make_folder("photos", {"blue": 10, "red": 6, "green": 1})
    result = train(folder, [*KEEP, "imbalance=views"], run=tmp_path / "run")
    assert computed == [2, 1]
    assert any("not evaluated" in note and "green" in note for note in result.notes)
