from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
import pytest

from sightline.evaluation.compare import compare
from sightline.evaluation.conformal import PredictionSets
from sightline.evaluation.metrics import evaluate
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.text import NAME_WIDTH, classification_report, comparison_report, summary


def result(names: list[str], counts: list[int], twins: str = "") -> dict[str, Any]:
    """Metrics of `counts[k]` images of class k, the last image of each called the next class; as read from a file."""
    labels = np.repeat(np.arange(len(names)), counts)
    predicted = labels.copy()
    predicted[np.cumsum(counts)[np.array(counts) > 0] - 1] += 1
    rows = np.full((len(labels), len(names)), 0.1 / (len(names) - 1))
    rows[np.arange(len(labels)), predicted % len(names)] = 0.9
    predictions = Predictions(tuple(map(str, range(len(labels)))), rows, tuple(names), labels)
    flags = {"": None, "some": np.arange(len(labels)) % 2 == 0, "all": np.ones(len(labels), dtype=bool)}[twins]
    return json.loads(json.dumps(evaluate(predictions, twins=flags, resamples=30)))  # type: ignore[no-any-return]


def cells(text: str) -> int:
    """Cells of a terminal, by a table written by hand for the characters of these tests."""
    return sum(2 if unicodedata.name(c).startswith(("CJK", "HANGUL", "HIRAGANA")) else 0 if c == "\u0301" else 1 for c in text)


def test_a_row_holds_the_figures_of_its_class() -> None:
    metrics = result(["cat", "dog", "fox"], [20, 9, 0])
    lines = classification_report(metrics).splitlines()
    assert lines[0] == "29 images, 2 classes evaluated."
    cat = next(line for line in lines if line.startswith("cat"))
    # Wilson's intervals of 19 of 19 and of 19 of 20; that of F1 is drawn.
    assert cat.split()[:10] == ["cat", "20", "100.0", "(83.2", "to", "100.0)", "95.0", "(76.4", "to", "99.1)"]
    assert cat.split()[10] == "97.4"
    assert len(cat.split()) == 14
    fox = next(line for line in lines if line.startswith("fox"))
    assert fox.split() == ["fox", "0", "0.0", "(0.0", "to", "79.3)", "-", "-"]
    assert "Not evaluated, as they have no images here: fox." in lines
    assert any(line.split()[:3] == ["accuracy", "93.1", "%"] for line in lines)
    assert any(line.startswith("log loss") and "%" not in line for line in lines)


def test_rows_keep_the_order_of_the_classes_at_102() -> None:
    names = [f"class number {k}" for k in np.random.default_rng(0).permutation(102)]
    lines = classification_report(result(names, [2] * 102)).splitlines()
    rows = [line for line in lines if line.startswith("class number")]
    assert [row[:16].strip() for row in rows] == [name.strip() for name in names]
    assert len({len(row) for row in rows}) == 1
    assert max(map(len, lines)) <= 100


def test_columns_line_up_in_every_script() -> None:
    names = ["cat", "狐の嫁入り", "개", "nai\u0308ve", "ab\u0301c", "Ёж", "x" * 70, "two\nlines"]
    names[3] = "naive"
    lines = classification_report(result(names, [12] * 8)).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("---")) + 1
    table = lines[start : start + 8]
    assert len({cells(line) for line in table}) == 1
    assert table[6].startswith("x" * (NAME_WIDTH - 1) + "… ")
    assert table[7].startswith("two lines ")


@pytest.mark.parametrize("write", [summary, classification_report])
def test_figures_without_twins_stand_beside(write: Any) -> None:
    metrics = result(["cat", "dog"], [30, 15], twins="some")
    text = write(metrics)
    both = [100 * part["accuracy"]["value"] for part in (metrics, metrics["leak_free"])]
    assert both[0] != both[1]
    assert all(f"{value:.1f} %" in text for value in both)
    assert "22" in text  # images without twins
    assert "every image has a twin in train" in write(result(["cat", "dog"], [3, 3], twins="all"))
    assert "twins" not in write(result(["cat", "dog"], [3, 3]))
    text = write(metrics | {"twins": {"looked_for": "equal", "note": "Only equal ones were looked for."}})
    assert "without an equal picture in train" in text
    assert "twins in train" not in text
    assert ("Only equal ones were looked for." in text) == (write is classification_report)


def test_the_summary_is_short_and_names_what_was_not_evaluated() -> None:
    lines = summary(result([f"c{k}" for k in range(20)], [5] * 8 + [0] * 12)).splitlines()
    assert lines[0].startswith("40 images, 8 classes: accuracy 80.0 % (65.2 to 89.5), macro F1 ")
    assert lines[1] == "not evaluated, for want of images: c8, c9, c10, c11, c12, c13 and 6 more"
    assert len(lines) == 2


def test_one_image_is_one_image() -> None:
    text = classification_report(result(["cat", "dog"], [1, 0]))
    assert text.startswith("1 image, 1 class evaluated.")
    assert "None" not in text
    assert "nan" not in text


def with_sets(thresholds: tuple[float, ...], own: tuple[bool, ...]) -> dict[str, Any]:
    """Ten images of two classes, two of the second called the first with 0.9, and sets by these thresholds."""
    labels, predicted = np.repeat([0, 1], [6, 4]), np.repeat([0, 1], [8, 2])
    rows = np.full((10, 2), 0.1)
    rows[np.arange(10), predicted] = 0.9
    predictions = Predictions(tuple("abcdefghij"), rows, ("cat", "dog"), labels)
    return evaluate(predictions, sets=PredictionSets(0.9, thresholds, own, 60), resamples=30)


def test_prediction_sets_have_a_sentence_a_column_and_a_table() -> None:
    metrics = with_sets((0.0, 0.0), (True, True))
    line = next(line for line in summary(metrics).splitlines() if line.startswith("prediction sets"))
    assert line.startswith("prediction sets for 90 %: they hold the true class in 80.0 % (49.0 to 94.3), 1.00 classes on average; ")
    assert line.endswith("100.0 % are of one class, right in 80.0 % (49.0 to 94.3)")
    lines = classification_report(metrics).splitlines()
    assert next(line for line in lines if line.startswith("class")).split()[-3:] == ["in", "its", "set"]
    dog = next(line for line in lines if line.startswith("dog"))
    assert dog.endswith("50.0 (15.0 to 85.0)")
    assert any(line.split() == ["mean", "size", "of", "a", "set", "1.00", "(1.00", "to", "1.00)"] for line in lines)
    assert "fewer than 20" not in "\n".join(lines)


def test_sets_of_all_classes_and_a_shared_threshold_are_told() -> None:
    metrics = with_sets((1.0, 1.0), (False, True))
    assert summary(metrics).splitlines()[-1].endswith("2.00 classes on average; none is of one class")
    report = classification_report(metrics)
    assert "1 of 2 classes (cat): fewer than 20 validation images" in report
    assert "these are right" not in report


def test_novelty_and_a_temperature_that_does_harm_are_told() -> None:
    metrics = result(["cat", "dog"], [20, 9])
    assert "unlike" not in classification_report(metrics)
    metrics |= {"novelty": {"share": 0.95, "flagged": {"value": 0.07, "low": 0.05, "high": 0.1}}, "calibration_note": "It does harm."}
    report = classification_report(metrics)
    said = "Images said to be unlike the training images: 7.0 % (5.0 to 10.0); the threshold is set for 5 % of ordinary images."
    assert said in report.splitlines()
    assert "It does harm." in report.splitlines()
    assert "It does harm." in summary(metrics).splitlines()


def test_a_comparison_has_sentences_then_figures_then_classes() -> None:
    labels = np.arange(90) % 3
    rows = np.full((3, 90, 3), 0.1)
    for row, wrong in zip(rows, (60, 20, 0), strict=True):
        row[np.arange(90), np.where(np.arange(90) < wrong, (labels + 1) % 3, labels)] = 0.8
    ids = tuple(f"{i:02d}" for i in range(90))
    given = {name: Predictions(ids, row, ("cat", "dog", "狐"), labels) for name, row in zip(("A", "B", "C"), rows, strict=True)}
    found = compare({name: given[name] for name in "AB"}, resamples=50)
    lines = comparison_report(found).splitlines()
    assert lines[:3] == ["90 images, 3 classes.", "", found["pairs"][0]["sentence"]]
    difference = next(line for line in lines if line.startswith("difference"))
    assert difference.split()[1] == "+44.4"
    assert any(line.split()[:3] == ["A", "33.3", "(24.5"] for line in lines)
    assert "Right only with B: 40 images; only with A: 0 images; McNemar's test: p < 0.001." in lines
    assert {line.split()[0] for line in lines[-3:]} == {"cat", "dog", "狐"}
    several = comparison_report(compare(given, resamples=50))
    assert "C has the highest accuracy, 100.0 %, and is more accurate than all others." in several
    assert [line.split()[:3] for line in several.splitlines() if " - A " in line and "recall" not in line] == [
        ["B", "-", "A"],
        ["C", "-", "A"],
    ]
    same = comparison_report(compare({"A": given["A"], "D": given["A"]}, resamples=20))
    assert "No class differs beyond chance" in same
    assert "Both are right on the same images" in same
    assert "-0.0" not in same
    assert "+0.0" not in same
    assert "None" not in same
    assert "nan" not in same
