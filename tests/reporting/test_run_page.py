"""report.html tells the truth about a run, escapes its names, and leaves out what there is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from sightline.evaluation.metrics import evaluate
from sightline.evaluation.predictions import Predictions
from sightline.reporting.confusions import MOST_CLASSES, shown_classes
from sightline.reporting.facts import MOST_RIGHT, MOST_WRONG, HeatMap, Judged, RunFacts, chosen
from sightline.reporting.made import _sum_of
from sightline.reporting.pictures import Pictures, make_pictures
from sightline.reporting.probabilities import sets_section
from sightline.reporting.run_page import run_page, wanted_pictures

NO_PICTURES = Pictures((), {}, {})


def data_of(html: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.findall(r'id="page-data">(.*?)</script>', html, re.DOTALL)[0])
    return found


def text_of(html: str) -> str:
    from html import unescape

    body = re.sub(r"<(style|script|title).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<.*?>", " ", body, flags=re.DOTALL)).split())


def test_counts_add_up_and_quarantined_ones_have_their_reason(make_facts: Callable[..., RunFacts]) -> None:
    said = text_of(run_page(make_facts(("cat", "dog"), 60), NO_PICTURES))
    assert "181 found = 180 used + 1 quarantined. 180 used = 90 train + 30 validation + 60 test." in said
    assert "truncated: the file ends before the picture does" in said


def test_counts_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(ValueError, match="not the 181 found"):
        _sum_of(181, {"train": 90, "val": 0, "test": 60}, 1, 0)


def test_the_first_sentence_has_the_figure_its_interval_and_who_judged(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog", "cow"), 150)
    assert facts.judged is not None
    accuracy = facts.judged.metrics["accuracy"]
    said = text_of(run_page(facts, NO_PICTURES))
    assert f"On 150 test images it is right in {100 * accuracy['value']:.1f} % of the cases" in said
    assert f"(95 % interval {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})" in said
    assert "neither trained the classifier nor chose anything" in said


def test_figures_on_val_are_said_to_flatter(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"), 120)
    assert facts.judged is not None
    said = text_of(run_page(replace(facts, judged=replace(facts.judged, name="val")), NO_PICTURES))
    assert "On 120 validation images" in said
    assert "so the figures flatter; no test part has judged" in said


def test_a_run_that_has_not_finished_says_how_to_go_on(make_facts: Callable[..., RunFacts]) -> None:
    facts = replace(make_facts(("cat", "dog")), judged=None, card=None)
    said = text_of(run_page(facts, NO_PICTURES))
    assert "has not finished: 6 epochs are done" in said
    assert "sightline train --resume /runs/made-up" in said
    bare = replace(facts, images=None, history=[], settings=[], environment=None, phases=[], best=None)
    assert "No epoch has been finished" in text_of(run_page(bare, NO_PICTURES))


def test_leak_free_figures_stand_beside_the_others(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"), 120)
    assert facts.judged is not None
    assert facts.judged.predictions is not None
    twins = np.arange(120) < 30
    metrics = evaluate(facts.judged.predictions, twins=twins, resamples=40)
    said = text_of(run_page(replace(facts, judged=replace(facts.judged, metrics=metrics)), NO_PICTURES))
    assert "30 images have a twin among those it learned or chose from. On the other 90 it is right in" in said
    assert "The 90 without twins" in said
    everything = evaluate(facts.judged.predictions, twins=np.ones(120, dtype=bool), resamples=40)
    said = text_of(run_page(replace(facts, judged=replace(facts.judged, metrics=everything)), NO_PICTURES))
    assert "these figures say nothing about new images" in said


def test_hostile_names_are_shown_and_not_obeyed(make_facts: Callable[..., RunFacts], nasty_names: tuple[str, ...]) -> None:
    facts = make_facts(nasty_names, 90)
    html = run_page(facts, make_pictures(wanted_pictures(facts), lambda path: np.zeros((9, 9, 3), dtype=np.uint8)))
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "<b>bold" not in html
    assert data_of(html)["classes"] == list(nasty_names)
    said = text_of(html)
    for name in nasty_names:
        assert " ".join(name.split()) in said or " ".join(name.split()) in " ".join(re.sub(r"<.*?>", " ", name).split()), name


def test_the_matrix_holds_the_counts_and_the_data_the_images_of_each_cell(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog", "cow", "emu"), 200)
    assert facts.judged is not None
    assert facts.judged.predictions is not None
    html = run_page(facts, NO_PICTURES)
    rows = re.findall(r'<tr data-support="\d+">(.*?)</tr>', html, re.DOTALL)
    counts = [[int(n or 0) for n in re.findall(r"<td(?: [^>]*)?>(\d*)</td>", row)] for row in rows]
    assert counts == facts.judged.metrics["confusion"]
    images, predictions = data_of(html)["images"], facts.judged.predictions
    place = {path: i for i, path in enumerate(predictions.ids)}
    assert predictions.labels is not None
    for path, label, predicted, confidence in zip(images["path"], images["label"], images["predicted"], images["confidence"], strict=True):
        row = place[path]
        assert (label, predicted) == (predictions.labels[row], predictions.predicted()[row])
        assert confidence == pytest.approx(predictions.confidence()[row], abs=1e-4)


def test_every_cell_has_images_and_none_too_many() -> None:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 5, 4000)
    predictions = Predictions(tuple(map(str, range(4000))), draws.dirichlet(np.ones(5), 4000), tuple("abcde"), labels)
    rows = chosen(predictions)
    cells = {(a, b): 0 for a in range(5) for b in range(5)}
    for label, predicted in zip(labels[rows], predictions.predicted()[rows], strict=True):
        cells[label, predicted] += 1
    assert len(set(rows.tolist())) == len(rows)
    assert all(n == (MOST_RIGHT if a == b else MOST_WRONG) for (a, b), n in cells.items())
    assert len({(labels[row], predictions.predicted()[row]) for row in rows[:25]}) >= 20  # the first ones are of different cells


def test_of_very_many_classes_the_most_confused_are_shown() -> None:
    confusion = np.diag(np.full(200, 5))
    confusion[150, 3] = 9
    shown = shown_classes({"confusion": confusion.tolist()})
    assert len(shown) == MOST_CLASSES
    assert {3, 150} <= set(shown.tolist())
    assert shown.tolist() == sorted(shown.tolist())


def test_a_temperature_that_was_kept_at_1_is_not_said_to_be_chosen(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"), 60)
    assert "and the temperature" in text_of(run_page(facts, NO_PICTURES))
    card = {"temperature": 1.0, "about": {"temperature_note": "all images are of one class; the temperature stays 1"}}
    said = text_of(run_page(replace(facts, card=card), NO_PICTURES))
    assert "and the temperature" not in said
    assert "chosen on validation," not in said
    assert "No temperature was fitted: it stays 1" in said
    assert "All images are of one class; the temperature stays 1." in said
    assert said.count("As they are") == 1


def test_from_two_seeds_no_interval_is_given(make_facts: Callable[..., RunFacts]) -> None:
    figures = {"accuracy": {"mean": 0.45, "sd": 0.04, "n": 2, "low": None, "high": None}}
    said = text_of(run_page(make_facts(("cat", "dog"), seeds={"split": "test", "seeds": [0, 1], "figures": figures}), NO_PICTURES))
    assert "From 2 runs there is no interval to speak of: train with 3 seeds or more." in said
    assert "4.00 points" in said


def test_images_that_are_left_out_are_not_called_quarantined(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"), 60)
    assert facts.images is not None
    dropped = pl.col("path") == "train/7.jpg"
    images = facts.images.with_columns(
        split=pl.when(~dropped).then("split"), reason=pl.when(dropped).then(pl.lit("dropped by corrections")).otherwise("reason")
    )
    said = text_of(run_page(replace(facts, images=images, passed_over={"hidden": 3}), NO_PICTURES))
    assert "181 found = 179 used + 1 quarantined + 1 left out." in said
    assert "1 dropped by corrections 1 left out in all" in said
    assert "Passed over, as no images to learn from: 3 hidden." in said


def test_what_a_run_has_not_is_left_out_and_named(make_facts: Callable[..., RunFacts]) -> None:
    html = run_page(make_facts(("cat", "dog")), NO_PICTURES)
    for name in ("audit", "sets", "repeats", "heat", "embedding"):
        assert f'<section id="{name}"' not in html
    assert "sightline audit /photos" in html


def test_what_a_run_has_is_shown(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"), 100)
    assert facts.judged is not None
    bins = [{"low": k / 10, "high": (k + 1) / 10, "n": 10, "confidence": k / 10 + 0.05, "accuracy": 0.5} for k in range(10)]
    sets = {
        "level": 0.9,
        "method": "aps",
        "coverage": {"value": 0.95, "low": 0.92, "high": 0.98},
        "mean_size": {"value": 1.2, "low": 1.1, "high": 1.3},
        "empty": 0,
        "per_class": [0.9, None],
        "note": "all classes share one threshold",
    }
    metrics = {**facts.judged.metrics, "reliability": {"calibrated": bins, "uncalibrated": bins}, "prediction_sets": sets}
    audit = {
        "findings": [
            _finding("dark", 2, [{"path": "d.jpg", "severity": 0.9, "label": "<cat>", "with": None, "why": "mean 3"}]),
            _finding("bright", 0, []),
        ]
    }
    seeds = {"split": "test", "seeds": [0, 1], "figures": {"accuracy": {"mean": 0.9, "sd": 0.012, "n": 2, "low": 0.8, "high": 1.0}}}
    rich = replace(
        facts,
        judged=replace(facts.judged, metrics=metrics),
        others=[Judged("elsewhere", facts.judged.metrics, None, "/other")],
        audit=audit,
        seeds=seeds,
        folds={**facts.judged.metrics, "folds": 5},
        heat_maps={
            "test": [HeatMap("h.jpg", "cat", "dog", 0.8, "AAAA", ("photo", "dog", "cat"))],
            "val": [HeatMap("v.jpg", "cat", "cat", 0.8, "BBBB")],
        },
    )
    html = run_page(rich, NO_PICTURES)
    said = text_of(html)
    assert html.count('aria-label="Reliability diagram') == 2
    assert "The sets hold the true class more often than promised" in said
    assert "All classes share one threshold." in said
    assert "Dark" in said
    assert "<cat>" in said
    assert "1 of 2 shown" in said
    assert "Looked for and not found: bright." in said
    assert "Trained 2 times with the seeds 0, 1" in said
    assert "1.20 points" in said
    assert "judged by 5 networks" in said
    assert "/other" in said
    assert data_of(html)["pictures"] == ["AAAA", "BBBB"]
    assert said.index("Of the test images") < said.index("h.jpg") < said.index("Of the validation images") < said.index("v.jpg")
    assert re.findall(r'data-picture="(\d)" alt="([hv]).jpg', html) == [("0", "h"), ("1", "v")]


def test_a_broken_promise_of_the_sets_is_a_warning(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"), 100)
    assert facts.judged is not None
    sets = {"level": 0.9, "coverage": {"value": 0.857, "low": 0.841, "high": 0.872}, "mean_size": {"value": 1.2, "low": 1.1, "high": 1.3}}
    section = sets_section(replace(facts.judged, metrics={**facts.judged.metrics, "prediction_sets": sets}))
    assert section is not None
    warning = re.findall(r'<p class="told warning">(.*?)</p>', section.body)
    assert warning[0].replace("\N{NO-BREAK SPACE}", " ").startswith("The promise was not kept: 85.7 % (84.1 to 87.2) of the sets")


def test_validation_figures_that_are_lower_are_not_said_to_flatter(make_facts: Callable[..., RunFacts]) -> None:
    better, worse = (make_facts(("cat", "dog"), 200, right=right).judged for right in (0.9, 0.5))
    assert better is not None
    assert worse is not None
    facts = make_facts(("cat", "dog"), judged=better, others=[replace(worse, name="val")])
    said = text_of(run_page(facts, NO_PICTURES))
    assert "so quote the test figures. Its own are lower here, so the two parts differ, by more than chance." in said
    assert "flatter" not in said
    said = text_of(run_page(replace(facts, judged=worse, others=[replace(better, name="val")]), NO_PICTURES))
    assert "Validation chose the epoch and the temperature: its figures flatter." in said


def _finding(name: str, count: int, images: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "level": "info",
        "count": count,
        "severity": 0.9,
        "sentence": f"{count} {name}.",
        "images": images,
        "groups": [],
    }


def test_settings_that_were_given_stand_first(make_facts: Callable[..., RunFacts]) -> None:
    html = run_page(make_facts(("cat", "dog")), NO_PICTURES)
    given, _, rest = html.partition("All other settings")
    assert "train.epochs" in given
    assert "train.seed" in rest.partition("What happened")[0]


def test_two_classes_and_a_class_without_images(make_facts: Callable[..., RunFacts]) -> None:
    draws = np.random.default_rng(1)
    predictions = Predictions(tuple(map(str, range(20))), draws.dirichlet(np.ones(3), 20), ("a", "b", "never"), np.arange(20) % 2)
    facts = make_facts(("a", "b"), 20)
    html = run_page(replace(facts, judged=Judged("test", evaluate(predictions, resamples=40), predictions)), NO_PICTURES)
    assert "Not evaluated, as no image of them judged: never." in text_of(html)
    assert html.count('<td class="none"></td>') == 3


def test_predictions_that_are_gone_leave_the_figures(make_facts: Callable[..., RunFacts]) -> None:
    facts = make_facts(("cat", "dog"))
    assert facts.judged is not None
    html = run_page(replace(facts, judged=replace(facts.judged, predictions=None)), NO_PICTURES)
    assert "The predictions of the images are no longer there" in html
    assert data_of(html)["images"]["path"] == []
