"""A study by sightline, and the same trials by a plain Optuna loop around the plain training loop of `transfer`.

    python -m benchmarks tune FOLDER --size 64 --epochs 10 --trials 12 --only scratch
    python -m benchmarks tune FOLDER --size 64 --epochs 10 --trials 12 --only frozen --model resnet18 --set model.weights=FILE

`scratch` trains all of a network from random weights, `frozen` a new head on a frozen trunk. Learning rate, weight decay and
label smoothing are searched; sightline's sampler draws them with a fixed seed, and the plain loop is given the same ones, so that
both train the same trials, none ended early. Time is the whole of it: scan, decoding, twins, split, every training, the study's
own files and pictures on our side; on the other decoding in each epoch, as a notebook does. The best is not trained again by either.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import torch
from torch import nn

from benchmarks.folders import read_all, some_of
from benchmarks.rounds import spread
from benchmarks.transfer import _answers, _loaders
from sightline.config import Config
from sightline.models.catalog import build
from sightline.models.freeze import freeze
from sightline.run.tune import tune

SPACE = {
    "train.lr": {"from": 3e-4, "to": 1e-2, "log": True},
    "train.weight_decay": {"from": 1e-5, "to": 1e-2, "log": True},
    "train.label_smoothing": {"from": 0.0, "to": 0.2, "step": 0.05},
}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """A row for each kind of study."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = some_of(given.folder, Path(place) / "some", given.images)
        read_all(folder)
        for kind in given.only or ["scratch", "frozen"]:
            rounds = [_round(folder, given, kind) for _ in range(given.rounds)]
            rows.append(
                {
                    "study": kind,
                    "sightline, seconds": spread([ours for ours, _, _ in rounds]),
                    "plain Optuna loop, seconds": spread([plain for _, plain, _ in rounds]),
                    "times as fast": spread([plain / ours for ours, plain, _ in rounds]),
                    "best val accuracy, %": [[round(100 * value, 1) for value in best] for _, _, best in rounds],
                }
            )
    epochs = (given.epochs or [10])[0]
    return {"model": given.model, "side": given.size or 64, "trials": given.trials, "epochs": epochs, "table": rows}


def _round(folder: Path, given: argparse.Namespace, kind: str) -> tuple[float, float, tuple[float, float]]:
    """Seconds of sightline and of the plain loop, and the best accuracy on val of each."""
    epochs, size = (given.epochs or [10])[0], given.size or 64
    words = [f"model.name={given.model}", f"data.size={size}", f"train.epochs={epochs}", "train.batch_size=32", "train.monitor=accuracy"]
    words += ["train.optimizer=adam", "train.schedule=constant", "imbalance=none", "augment.policy=flip", "augment.shear=10"]
    words += ["augment.scale=[0.8,1.2]", "augment.fill=constant", *(["model.freeze=trunk"] if kind == "frozen" else [])]
    words += [*([f"device.threads={given.threads}"] if given.threads else []), *(given.set or [])]
    with tempfile.TemporaryDirectory() as work:
        os.environ["SIGHTLINE_CACHE"] = f"{work}/cache"  # nothing is there already
        recipe = {"tune": {"space": SPACE, "objective": "val_accuracy", "pruner": "none", "refit": False}}
        started = time.perf_counter()
        result = tune(folder, words, recipe, given.trials, f"{work}/study")
        ours = time.perf_counter() - started
        images = pl.read_parquet(f"{work}/study/images.parquet")
        chosen = [trial.chosen for trial in result.trials]
    started = time.perf_counter()
    plainly = _plain_study(folder, images, Config.load(None, words), chosen, epochs)
    assert result.best is not None
    assert result.best.values is not None
    return ours, time.perf_counter() - started, (result.best.values[0], plainly)


def _plain_study(folder: Path, images: pl.DataFrame, config: Config, chosen: list[dict[str, Any]], epochs: int) -> float:
    """The notebook's loop: everything anew in each trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    for values in chosen:
        study.enqueue_trial(values)
    classes = sorted(set(images["label"].drop_nulls()))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("train.lr", 3e-4, 1e-2, log=True)
        decay = trial.suggest_float("train.weight_decay", 1e-5, 1e-2, log=True)
        smoothing = trial.suggest_float("train.label_smoothing", 0.0, 0.2, step=0.05)
        torch.manual_seed(0)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = build(config.model, len(classes), size=config.data.size).network.to(device)  # type: ignore[arg-type]
        frozen = freeze(network, config.model.freeze)
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=rate, weight_decay=decay)
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
        loaders = _loaders(folder, images, classes, config)
        best = 0.0
        for epoch in range(epochs):
            network.train()
            frozen.hold(network)
            for batch, labels in loaders["train"]:
                optimizer.zero_grad()
                loss(network(batch.to(device)), labels.to(device)).backward()
                optimizer.step()
            accuracy = float(_answers(network, loaders["val"]).mean())
            best = max(best, accuracy)
            trial.report(accuracy, epoch)
        return best

    study.optimize(objective, n_trials=len(chosen))
    return study.best_value
