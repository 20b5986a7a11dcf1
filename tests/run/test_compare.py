"""Comparing runs: from what `evaluate` left in their folders, and only on the same images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sightline.errors import DataError, RunError, SettingsError
from sightline.evaluation.compare import compare as compare_answers
from sightline.evaluation.predictions import Predictions
from sightline.run.compare import compare

N = 300
LABELS = np.random.default_rng(0).integers(0, 3, N)
Make = Callable[..., Path]


def answered(right: float, seed: int, images: range = range(N)) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = LABELS[list(images)]
    called = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % 3)
    rows = np.full((len(labels), 3), 0.1)
    rows[np.arange(len(labels)), called] = 0.8
    return Predictions(tuple(f"c/{i:03d}.png" for i in images), rows, ("cat", "dog", "owl"), labels)


@pytest.fixture
def make_run(tmp_path: Path) -> Make:
    """`make_run("a", predictions)` writes what a run folder has of it."""

    def make(name: str, given: Predictions, split: str = "test", salt: str = "") -> Path:
        place = tmp_path / name
        (place / "evaluation" / split).mkdir(parents=True)
        (place / "ledger.jsonl").write_text('{"event": "started", "folder": "x"}\n')
        pl.DataFrame({"path": given.ids, "digest": [f"{path}{salt}" for path in given.ids]}).write_parquet(place / "images.parquet")
        given.save(place / "evaluation" / split / "predictions.parquet")
        return place

    return make


def test_the_comparison_is_that_of_the_predictions(make_run: Make, tmp_path: Path) -> None:
    first, second = answered(0.6, 1), answered(0.95, 2)
    found = compare([make_run("plain", first), make_run("pretrained", second)])
    expected = compare_answers({"plain": first, "pretrained": second})
    for row, name in zip(expected["runs"], ("plain", "pretrained"), strict=True):
        row["path"] = str(tmp_path / name)
    assert found.found == {"split": "test"} | expected
    text = found.text()
    assert "pretrained is better than plain by " in text
    assert "McNemar's test: p < 0.001" in text
    assert "Classes that differ beyond chance, allowing for 3 of them being looked at:" in text
    assert "left out" not in text
    found.write(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == found.to_json()
    found.write(tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_text() == text
    with pytest.raises(SettingsError, match=r"\.json or \.txt"):
        found.write(tmp_path / "c.csv")


def test_alike_runs_are_not_told_apart(make_run: Make) -> None:
    text = compare([make_run("a", answered(0.8, 1)), make_run("b", answered(0.8, 2))]).text()
    assert "Too few images to say whether a or b is better: on 300 images they differ by" in text
    assert "No class differs beyond chance, allowing for 3 of them being looked at (Holm)." in text


def test_several_runs_are_ranked_and_images_that_not_all_judged_are_told(make_run: Make) -> None:
    runs = [
        make_run("a", answered(0.5, 1)),
        make_run("b", answered(0.95, 2, range(0, 200))),
        make_run("c", answered(0.7, 3, range(50, 300))),
    ]
    found = compare(runs)
    assert found.found["n"] == 150
    assert [row["left_out"] for row in found.found["runs"]] == [150, 50, 100]
    text = found.text()
    assert "Only the 150 images that all have judged were compared; left out: 150 of a, 50 of b, 100 of c." in text
    assert "b has the highest accuracy" in text
    assert "for all pairs together" in text
    assert [line for line in text.splitlines() if line.startswith("c - a")]


def test_runs_of_one_name_are_called_by_their_paths(make_run: Make, tmp_path: Path) -> None:
    found = compare([make_run("x/run", answered(0.6, 1)), make_run("y/run", answered(0.9, 2))])
    assert [row["name"] for row in found.found["runs"]] == [str(tmp_path / "x" / "run"), str(tmp_path / "y" / "run")]


def test_val_flatters_and_says_so(make_run: Make) -> None:
    runs = [make_run(name, answered(0.8, k), split="val") for k, name in enumerate("ab")]
    assert "val chose the epoch" in compare(runs, "val").text()
    with pytest.raises(RunError, match=r"not been evaluated on test: run `sightline evaluate .*a --split test`"):
        compare(runs)


def test_what_cannot_be_compared_is_a_sentence(make_run: Make, tmp_path: Path) -> None:
    one = make_run("one", answered(0.8, 1))
    with pytest.raises(SettingsError, match="two runs or more"):
        compare([one])
    with pytest.raises(SettingsError, match="named twice"):
        compare([one, str(one) + "/"])
    with pytest.raises(RunError, match="not a run folder"):
        compare([one, tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"another picture in each \(300 such\)"):
        compare([one, make_run("renamed", answered(0.8, 2), salt="x")])
    with pytest.raises(RunError, match=r"evaluated on birds: run `sightline evaluate .* FOLDER`"):
        compare([one, make_run("other", answered(0.8, 2))], "birds")


def test_of_a_run_with_seeds_it_says_which_was_compared(make_run: Make) -> None:
    one, other = make_run("one", answered(0.6, 1)), make_run("other", answered(0.9, 2))
    figures = {name: {"mean": 0.88, "sd": 0.01, "n": 2, "low": None, "high": None} for name in ("accuracy", "macro_f1")}
    (other / "seeds.json").write_text(json.dumps({"split": "test", "seeds": [7, 8], "figures": figures}))
    (note,) = compare([one, other]).notes
    assert note.startswith(
        "Of other the network of its first seed, 7, was compared, not all of them (test, mean over 2 seeds: accuracy 88.0 %"
    )


def test_nothing_is_written_among_the_images_of_a_run(make_run: Make, tmp_path: Path) -> None:
    runs = [make_run("one", answered(0.6, 1)), make_run("other", answered(0.9, 2))]
    (tmp_path / "photos").mkdir()
    (runs[1] / "ledger.jsonl").write_text(json.dumps({"event": "started", "folder": str(tmp_path / "photos")}) + "\n")
    with pytest.raises(RunError, match="never written to"):
        compare(runs).write(tmp_path / "photos" / "c.json")


def test_images_whose_content_is_not_known_are_taken_by_their_path(make_run: Make) -> None:
    one, other = make_run("one", answered(0.6, 1)), make_run("other", answered(0.9, 2), salt="x")
    (other / "images.parquet").unlink()
    assert compare([one, other]).found["n"] == N
