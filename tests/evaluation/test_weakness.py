"""Reasons in words, checked on a case that was counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.evaluation.predictions import Predictions
from sightline.evaluation.weakness import ClassWeakness, confused_pairs, weaknesses

CLASSES = ("lily", "rose", "tulip")


def made(answers: list[tuple[str, str, float]], classes: tuple[str, ...] = CLASSES) -> Predictions:
    """(true, named, confidence) an image; what is left goes to the first other class."""
    probabilities = np.zeros((len(answers), len(classes)))
    for row, (_, named, confidence) in zip(probabilities, answers, strict=True):
        k = classes.index(named)
        row[k], row[0 if k else 1] = confidence, 1 - confidence
    labels = np.array([classes.index(true) for true, _, _ in answers], dtype=np.int64)
    return Predictions(tuple(f"{true}/{i}.jpg" for i, (true, _, _) in enumerate(answers)), probabilities, classes, labels)


def by_name(found: list[ClassWeakness], name: str) -> ClassWeakness:
    return next(weak for weak in found if weak.name == name)


def said(weak: ClassWeakness) -> dict[str, str]:
    return {reason.kind: reason.sentence for reason in weak.reasons}


@pytest.fixture
def predictions() -> Predictions:
    """12 roses of which 5 are called tulip and 1 lily; 20 tulips of which 2 are called rose; 30 lilies, all right."""
    roses = (
        [("rose", "rose", 0.8)] * 6
        + [("rose", "tulip", 0.6), ("rose", "tulip", 0.95), ("rose", "lily", 0.7)]
        + [("rose", "tulip", 0.55)] * 3
    )
    return made(roses + [("tulip", "tulip", 0.9)] * 18 + [("tulip", "rose", 0.7)] * 2 + [("lily", "lily", 0.9)] * 30)


COUNTS = {"lily": 100, "rose": 12, "tulip": 60}


def test_the_weakest_class_comes_first_with_its_counts(predictions: Predictions) -> None:
    found = weaknesses(predictions, COUNTS)
    assert [weak.name for weak in found] == ["rose", "tulip", "lily"]
    rose = found[0]
    assert (rose.train, rose.support, rose.right, rose.false) == (12, 12, 6, 2)
    assert rose.recall == 0.5
    assert rose.f1 == pytest.approx(2 * 6 / (12 + 8))
    assert rose.taken_for == (("tulip", 5), ("lily", 1))


def test_mistakes_are_listed_the_surest_first(predictions: Predictions) -> None:
    rose = weaknesses(predictions, COUNTS)[0]
    assert [mistake.confidence for mistake in rose.mistakes] == [0.95, 0.7, 0.6, 0.55, 0.55, 0.55]
    assert rose.mistakes[0].id == "rose/7.jpg"
    assert (rose.mistakes[0].label, rose.mistakes[0].predicted) == ("rose", "tulip")
    assert rose.mistakes[1].chance == pytest.approx(0.3)


def test_reasons_are_plain_sentences_with_counts(predictions: Predictions) -> None:
    reasons = said(weaknesses(predictions, COUNTS)[0])
    assert reasons["few_to_learn"] == "Few images to learn from: 12; half of the classes have 60 or more."
    assert reasons["confusable"] == "5 of its 12 images are taken for tulip, and 2 images of tulip for it: the two are hard to tell apart."
    assert reasons["sure"] == "One of its mistakes is made with a confidence of 90 % or more: look at its label."
    assert "few_to_judge" not in reasons


def test_a_class_without_any_mistake_has_no_reasons() -> None:
    predictions = made([("rose", "rose", 0.9)] * 3 + [("tulip", "tulip", 0.9)] * 3)
    found = weaknesses(predictions, {})
    assert [weak.reasons for weak in found[:2]] == [(), ()]
    assert all(not weak.mistakes for weak in found)


def test_a_class_without_images_comes_last_and_says_so(predictions: Predictions) -> None:
    found = weaknesses(made([("rose", "rose", 0.9), ("tulip", "rose", 0.6)]), {"lily": 3})
    assert found[-1].name == "lily"
    assert found[-1].recall is None
    assert found[-1].f1 is None
    assert found[-1].reasons[0].sentence == "No image of it was judged: nothing can be said of it."


def test_a_single_image_says_next_to_nothing() -> None:
    weak = by_name(weaknesses(made([("rose", "rose", 0.9), ("tulip", "rose", 0.6)]), None), "tulip")
    assert said(weak)["few_to_judge"] == "Judged on a single image: its figures say next to nothing."
    assert said(weak)["confusable"] == "1 of its 1 images is taken for rose."
    assert "few_to_learn" not in said(weak)


def test_few_images_to_judge_by_are_told_in_points(predictions: Predictions) -> None:
    weak = by_name(weaknesses(made([("rose", "rose", 0.9)] * 3 + [("rose", "tulip", 0.6)]), COUNTS), "rose")
    assert said(weak)["few_to_judge"] == "Judged on 4 images only: each moves its recall by 25 points."


def test_twins_that_flatter_are_told_with_the_recall_without_them(predictions: Predictions) -> None:
    twins = np.zeros(len(predictions), dtype=bool)
    twins[:4] = True  # four of the six roses that were recognised
    reasons = said(weaknesses(predictions, COUNTS, twins)[0])
    assert reasons["twins"] == (
        "4 of its 12 judged images have twins among those learned from; without them its recall is 25 % instead of 50 %."
    )
    assert "twins" not in said(weaknesses(predictions, COUNTS, ~twins & False)[0])


def test_twins_that_do_not_flatter_are_no_reason(predictions: Predictions) -> None:
    twins = np.zeros(len(predictions), dtype=bool)
    twins[6:9] = True  # three that were mistaken all the same
    rose = weaknesses(predictions, COUNTS, twins)[0]
    assert rose.twins == 3
    assert "twins" not in said(rose)


def test_a_class_of_twins_alone_says_nothing_about_new_images(predictions: Predictions) -> None:
    reasons = said(weaknesses(predictions, COUNTS, np.ones(len(predictions), dtype=bool))[0])
    assert reasons["twins"].startswith("Each of its judged images has a twin")


def test_doubted_labels_are_counted_by_the_label_they_carry(predictions: Predictions) -> None:
    suspects = {"rose/7.jpg": "rose", "rose/elsewhere.jpg": "rose", "lily/40.jpg": "lily"}
    rose = weaknesses(predictions, COUNTS, suspects=suspects)[0]
    assert said(rose)["suspects"] == "2 images of it may carry a wrong label, 1 of them among its mistakes."
    assert [mistake.suspect for mistake in rose.mistakes] == [True, False, False, False, False, False]


def test_mistakes_that_go_everywhere_are_told_apart_from_a_look_alike() -> None:
    classes = ("a", "b", "c", "d", "e")
    answers = [("a", other, 0.6) for other in "bcde"] + [("a", "a", 0.9)] * 8 + [(c, c, 0.9) for c in "bcde"] * 6
    weak = by_name(weaknesses(made(answers, classes), dict.fromkeys(classes, 50)), "a")
    assert said(weak) == {"scattered": "Its 4 mistakes go to 4 different classes: it has no one look-alike."}


def test_a_class_that_is_named_too_often_is_told() -> None:
    answers = [("rose", "rose", 0.9)] * 12 + [("tulip", "rose", 0.6)] * 4 + [("lily", "rose", 0.6)] + [("tulip", "tulip", 0.9)] * 9
    weak = by_name(weaknesses(made(answers), dict.fromkeys(CLASSES, 50)), "rose")
    assert said(weak)["attracts"] == "It is named too often: 5 images of other classes are taken for it, 4 of them tulip."


def test_pairs_count_both_directions_and_keep_the_images(predictions: Predictions) -> None:
    first, second = confused_pairs(predictions)
    assert (first.first, first.second, first.forth, first.back) == ("rose", "tulip", 5, 2)
    assert first.share == pytest.approx(7 / 32)
    assert first.sentence == "5 of 12 rose taken for tulip, 2 of 20 the other way round"
    assert [mistake.confidence for mistake in first.mistakes] == [0.95, 0.7, 0.7, 0.6, 0.55, 0.55, 0.55]
    assert (second.first, second.second, second.forth, second.back) == ("rose", "lily", 1, 0)
    assert second.sentence == "1 of 12 rose taken for lily"
    assert confused_pairs(predictions, most=1) == [first]


def test_no_mistakes_make_no_pairs() -> None:
    assert confused_pairs(made([("rose", "rose", 0.9)])) == []


def test_without_labels_nothing_is_a_mistake() -> None:
    unlabelled = Predictions(("a",), np.array([[0.5, 0.5]]), ("x", "y"), None)
    with pytest.raises(ValueError, match="without labels"):
        weaknesses(unlabelled, {})
    with pytest.raises(ValueError, match="without labels"):
        confused_pairs(unlabelled)


def test_marks_of_twins_must_fit(predictions: Predictions) -> None:
    with pytest.raises(ValueError, match="3"):
        weaknesses(predictions, COUNTS, np.zeros(3, dtype=bool))
