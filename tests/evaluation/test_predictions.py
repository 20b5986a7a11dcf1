from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import RunError
from sightline.evaluation.predictions import Predictions, row_blocks

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=8)  # a lone surrogate is no text


def small(**changes: object) -> Predictions:
    parts: dict[str, object] = {
        "ids": ("cat/1.jpg", "dog/2.jpg"),
        "probabilities": np.array([[0.75, 0.25], [0.5, 0.5]]),
        "classes": ("cat", "dog"),
        "labels": np.array([0, 1]),
    }
    return Predictions(**(parts | changes))  # type: ignore[arg-type]


def test_the_prediction_is_the_first_of_the_most_probable() -> None:
    assert small().predicted().tolist() == [0, 0]
    assert small().confidence().tolist() == [0.75, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ("a",)}, "shape"),
        ({"classes": ("cat",)}, "shape"),
        ({"classes": ("cat", "cat")}, "'cat' appears twice"),
        ({"classes": (), "probabilities": np.zeros((2, 0))}, "at least one class"),
        ({"probabilities": np.array([[0.75, 0.25], [np.nan, 0.5]])}, "row 1"),
        ({"probabilities": np.array([[0.75, 0.25], [np.inf, 0.5]])}, "row 1"),
        ({"probabilities": np.array([[0.75, 0.25], [0.5, 0.5 + 2e-6]])}, "do not sum to 1"),
        ({"probabilities": np.array([[1.5, -0.5], [0.5, 0.5]])}, "below 0"),
        ({"probabilities": np.array([[0.7, 0.1], [0.5, 0.5]], dtype=np.float32)}, "do not sum to 1"),
        ({"labels": np.array([0, 2])}, r"0\.\.1"),
        ({"labels": np.array([-1, 0])}, r"0\.\.1"),
        ({"labels": np.array([0])}, "2 whole numbers"),
        ({"labels": np.array([0.0, 1.0])}, "2 whole numbers"),
    ],
)
def test_impossible_states_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_rows_of_lower_precision_are_brought_to_the_sum_1() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(300), size=50).astype(np.float16)
    assert np.abs(rows.astype(float).sum(axis=1) - 1).max() > 1e-6
    kept = Predictions(tuple(map(str, range(50))), rows, tuple(map(str, range(300))), None).probabilities
    assert kept.dtype == np.float64
    assert np.abs(kept.sum(axis=1) - 1).max() < 1e-12
    assert np.allclose(kept, rows.astype(float), rtol=1e-2)


def test_arrays_cannot_be_changed_behind_its_back() -> None:
    mine = np.array([[0.75, 0.25], [0.5, 0.5]])
    predictions = small(probabilities=mine)
    with pytest.raises(ValueError, match="read-only"):
        predictions.probabilities[0, 0] = 1
    mine[1] = 0.5, 0.5  # the caller's own array stays writeable


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_saved_and_loaded_is_the_same(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    classes = data.draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    ids = data.draw(st.lists(NAMES, max_size=6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    probabilities = rng.dirichlet(np.full(len(classes), 0.1), size=len(ids))
    labels = rng.integers(0, len(classes), len(ids)) if ids and data.draw(st.booleans()) else None
    path = tmp_path_factory.mktemp("table") / "p.parquet"
    Predictions(tuple(ids), probabilities, tuple(classes), labels).save(path)
    loaded = Predictions.load(path)
    assert (loaded.ids, loaded.classes) == (tuple(ids), tuple(classes))
    assert np.array_equal(loaded.probabilities, probabilities)
    assert (loaded.labels is None) == (labels is None)
    assert labels is None or (np.array_equal(loaded.labels, labels) and loaded.labels.dtype == np.int64)


def test_the_table_reads_as_a_person_expects(tmp_path: Path) -> None:
    small().save(tmp_path / "p.parquet")
    table = pl.read_parquet(tmp_path / "p.parquet")
    assert table.columns == ["id", "label", "predicted", "confidence", "p:cat", "p:dog"]
    assert table.row(0) == ("cat/1.jpg", "cat", "cat", 0.75, 0.75, 0.25)
    small(labels=None).save(tmp_path / "p.parquet")
    assert pl.read_parquet(tmp_path / "p.parquet")["label"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"id": ["a"], "label": ["cat"]}, "no column that begins"),
        ({"id": ["a"], "label": ["cow"], "p:cat": [1.0]}, "'cow'"),
        ({"id": ["a", "b"], "label": ["cat", None], "p:cat": [1.0, 1.0]}, "1 of 2 images have no label"),
        ({"id": ["a"], "label": ["cat"], "p:cat": [0.5]}, "sum to 1"),
        ({"label": ["cat"], "p:cat": [1.0]}, "id"),
    ],
)
def test_another_table_is_refused_with_the_reason(tmp_path: Path, table: dict[str, list[object]], reason: str) -> None:
    pl.DataFrame(table).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(RunError, match=reason):
        Predictions.load(tmp_path / "p.parquet")


def test_a_missing_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    small().save(tmp_path / "p.parquet")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "p.parquet").read_bytes()[:200])
    for name in ("none.parquet", "half.parquet"):
        with pytest.raises(RunError, match=name):
            Predictions.load(tmp_path / name)


def test_blocks_cover_every_row_once() -> None:
    rows = np.concatenate([np.arange(5000)[block] for block in row_blocks(5000, 1000)])
    assert rows.tolist() == list(range(5000))
    assert max(len(np.arange(5000)[block]) for block in row_blocks(5000, 1000)) < 1100
