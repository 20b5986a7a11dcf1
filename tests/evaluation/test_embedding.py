"""The plane: neighbours stay neighbours, nothing odd breaks it, and the picture can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from sightline.errors import SettingsError
from sightline.evaluation import embedding as module
from sightline.evaluation.embedding import Embedding, lay_out
from sightline.evaluation.embedding_picture import embedding_figure, embedding_picture
from sightline.evaluation.looks import COLOURS, MARKS, class_anchors, looks


def groups(count: int, each: int = 20, width: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features around `count` centres, and the number of each one's centre."""
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), each)
    return (draws.normal(0, 6, (count, width))[labels] + draws.normal(0, 1, (len(labels), width))).astype(np.float32), labels


def embedded(labels: np.ndarray, places: np.ndarray, classes: tuple[str, ...], predicted: np.ndarray | None = None) -> Embedding:
    n = len(labels)
    named = labels if predicted is None else predicted
    return Embedding(tuple(f"{i}.jpg" for i in range(n)), classes, labels, named, np.full(n, 0.9), places, "t-SNE", (), n)


# ---- layout ----------------------------------------------------------------------------------------------------------


def test_groups_of_features_stay_groups() -> None:
    features, labels = groups(4)
    places = lay_out(features).places
    distances = np.square(places[:, None] - places[None]).sum(2) + np.eye(len(places)) * 9
    assert (labels[distances.argmin(1)] == labels).all()
    assert trustworthiness(features, places) > 0.9
    assert places.dtype == np.float32
    assert np.abs(places).max() == pytest.approx(1)


def test_the_same_seed_gives_the_same_places_whatever_the_number_of_threads() -> None:
    features, _ = groups(3)
    with threadpool_limits(3):
        first = lay_out(features, seed=1).places
    np.testing.assert_array_equal(first, lay_out(features, seed=1).places)


def test_the_unit_of_the_features_does_not_matter() -> None:
    features, _ = groups(3)
    places = lay_out(features * 1e18).places
    assert np.isfinite(places).all()
    assert trustworthiness(features, places) > 0.9


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_few_images_are_drawn_by_their_principal_components(count: int) -> None:
    layout = lay_out(np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32))
    assert layout.places.shape == (count, 2)
    assert np.isfinite(layout.places).all()
    assert layout.method != "t-SNE"
    if count > 1:
        assert "too few for neighbourhoods" in layout.notes[0]


@pytest.mark.parametrize("count", [5, 6, 8, 31])
def test_few_images_have_a_smaller_neighbourhood(count: int) -> None:
    layout = lay_out(np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32))
    assert layout.method == "t-SNE"
    assert np.isfinite(layout.places).all()


def test_equal_features_share_one_place_and_it_is_told() -> None:
    layout = lay_out(np.ones((20, 4), dtype=np.float32))
    assert not layout.places.any()
    assert layout.notes == ("All images have the same features, and one place.",)


def test_many_copies_of_few_images_are_few_images() -> None:
    layout = lay_out(np.eye(3, dtype=np.float32).repeat(30, axis=0))
    assert layout.method == "PCA"
    assert np.isfinite(layout.places).all()


def test_one_feature_is_enough() -> None:
    assert lay_out(np.arange(20, dtype=np.float32)[:, None]).places.shape == (20, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_have_no_place_and_are_told(value: float) -> None:
    features, _ = groups(2)
    features[3, 1] = value
    layout = lay_out(features)
    assert np.flatnonzero(np.isnan(layout.places[:, 0])).tolist() == [3]
    assert layout.notes == ("1 image has features that are no numbers, and no place.",)
    assert lay_out(np.full((7, 2), value, dtype=np.float32)).notes[-1].startswith("7 images have")


def test_umap_that_is_not_installed_and_unknown_methods_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'sightline\[umap\]'"):
        lay_out(groups(2)[0], "umap")
    with pytest.raises(SettingsError, match="tsne or umap, not pca"):
        lay_out(groups(2)[0], "pca")


# ---- looks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 12, 13, 102])
def test_each_class_has_a_look_of_its_own(count: int) -> None:
    features, labels = groups(count, 3)
    found = looks(features[:, :2] / 20, labels, count)
    assert len({(look.colour, look.mark) for look in found}) == count


def test_classes_that_lie_near_each_other_have_different_colours() -> None:
    draws = np.random.default_rng(0)
    centres = draws.uniform(-1, 1, (60, 2)).astype(np.float32)
    found = looks(centres, np.arange(60), 60)
    distances = np.square(centres[:, None] - centres[None]).sum(2) + np.eye(60) * 9
    nearest = np.argsort(distances, axis=1)[:, :3]
    clashes = sum(found[k].colour == found[other].colour for k in range(60) for other in nearest[k])
    assert clashes <= 2


def test_more_classes_than_looks_use_each_about_equally_often() -> None:
    count = len(COLOURS) * len(MARKS) * 2
    found = looks(np.random.default_rng(0).uniform(-1, 1, (count, 2)).astype(np.float32), np.arange(count), count)
    assert len({(look.colour, look.mark) for look in found}) == count // 2


def test_a_class_in_two_groups_is_labelled_in_the_larger_one() -> None:
    places = np.array([[-0.8, 0]] * 6 + [[0.8, 0]] * 4, dtype=np.float32)
    np.testing.assert_allclose(class_anchors(places, np.zeros(10, dtype=np.int64), 2)[0], [-0.8, 0], atol=1e-6)


# ---- table and picture -----------------------------------------------------------------------------------------------


def test_the_table_has_names_and_null_where_there_is_no_place() -> None:
    places = np.array([[0.5, -0.5], [np.nan, np.nan]], dtype=np.float32)
    frame = embedded(np.array([0, 1]), places, ("cat", "dog"), np.array([1, 1])).frame()
    assert frame.columns == ["path", "label", "predicted", "confidence", "x", "y"]
    assert frame.rows() == [("0.jpg", "cat", "dog", 0.9, 0.5, -0.5), ("1.jpg", "dog", "dog", 0.9, None, None)]
    assert frame.schema["x"] == pl.Float32


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of 1 images"):
        Embedding(("a", "b"), ("x",), np.zeros(2, int), np.zeros(2, int), np.zeros(2), np.zeros((2, 2), np.float32), "t-SNE", (), 1)


def texts(figure: object) -> list[str]:
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def test_the_legend_names_every_class_with_its_images_and_mistakes() -> None:
    features, labels = groups(3, 7)
    predicted = labels.copy()
    predicted[:2] = 2
    shown = texts(embedding_figure(embedded(labels, features[:, :2] / 30, ("cat", "dog", "owl"), predicted)))
    for word in ("cat", "dog", "owl", "7", "2", "ringed: taken for another class"):
        assert word in shown
    assert any("21 images; 2 taken for another class" in text for text in shown)


def test_a_hundred_classes_have_numbers_in_the_plane_and_names_in_the_legend() -> None:
    features, labels = groups(102, 3)
    names = tuple(f"flower {i:03d}" for i in range(102))
    figure = embedding_figure(embedded(labels, features[:, :2] / 30, names))
    plane, legend = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert sorted(plane, key=int) == [str(i + 1) for i in range(102)]
    assert set(names) <= set(legend)


def test_names_in_any_script_and_places_that_are_missing_are_drawn(tmp_path: Path) -> None:
    places = np.array([[0, 0], [np.nan, np.nan], [1, 1]], dtype=np.float32)
    embedding_picture(embedded(np.array([0, 1, 2]), places, ("$x_1$", "Ölbaum", "薔薇" * 30)), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 1200
