"""The switch sets what it says, the user's own values hold, and contradictions are told."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import Config, Remedy, phases_of
from sightline.training.imbalance import PLAIN, REMEDIES, choose_remedy, contradictions, extra_phases, settle, too_short
from sightline.watched import watch

COUNTS = (100, 10, 0, 40)


def config(**values: Any) -> Config:
    """`imbalance`, and settings of train by their name."""
    return Config().with_values({path if path == "imbalance" else f"train.{path}": value for path, value in values.items()})


def plain_but(remedy: str, **expected: Any) -> dict[str, Any]:
    """Everything plain but what is expected; targets are smoothed unless logits are adjusted."""
    values = {"imbalance": remedy, **PLAIN, **{f"train.{name}": value for name, value in expected.items()}}
    adjusted = values["train.logit_adjustment"] or values["train.posthoc_adjustment"]
    return values | ({"train.label_smoothing": 0.0 if adjusted else 0.1} if values["train.loss"] == "cross_entropy" else {})


def test_smoothing_given_by_hand_holds_with_adjustment_too() -> None:
    assert settle(config(imbalance="logit_adjustment", label_smoothing=0.05), COUNTS)["train.label_smoothing"] == 0.05


def test_every_remedy_has_its_settings() -> None:
    assert set(REMEDIES) == set(get_args(Remedy)) - {"auto"}
    assert all(set(preset) <= set(PLAIN) for preset in REMEDIES.values())


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        ("none", {}),
        ("weights", {"train.class_weights": "inverse"}),
        ("effective_weights", {"train.class_weights": "effective"}),
        ("sampler", {"train.sampler": "balanced"}),
        ("sqrt_sampler", {"train.sampler": "sqrt"}),
        ("views", {"train.views_per_class": 100}),
        ("focal", {"train.loss": "focal"}),
        ("balanced_focal", {"train.loss": "focal", "train.class_weights": "effective"}),
        ("logit_adjustment", {"train.logit_adjustment": 1.0}),
        ("posthoc_adjustment", {"train.posthoc_adjustment": 1.0}),
        ("ldam", {"train.loss": "ldam"}),
        ("crt", {}),
    ],
)
def test_a_remedy_sets_its_settings_and_leaves_the_others_plain(remedy: str, expected: dict[str, Any]) -> None:
    assert settle(config(imbalance=remedy), COUNTS) == plain_but(
        remedy, **{path.removeprefix("train."): value for path, value in expected.items()}
    )


@pytest.mark.parametrize("remedy", get_args(Remedy))
def test_settled_values_are_settings_and_settle_to_themselves(remedy: str) -> None:
    values = settle(config(imbalance=remedy), COUNTS)
    settled = Config().with_values(values)
    assert "auto" not in values.values()
    assert settle(settled, COUNTS) == values
    assert settle(settled, (1000, 1, 0, 5)) == values  # resuming or repeating, nothing is chosen anew


def test_what_the_user_gave_holds() -> None:
    values = settle(config(imbalance="balanced_focal", class_weights="inverse", views_per_class=None, logit_adjustment=0.3), COUNTS)
    assert values["train.loss"] == "focal"
    assert values["train.class_weights"] == "inverse"
    assert values["train.logit_adjustment"] == 0.3


def test_auto_does_nothing_about_classes_of_like_size() -> None:
    assert choose_remedy((100, 34, 0, 60)) == "none"
    assert settle(config(), (100, 34, 0, 60)) == plain_but("none")


def test_auto_does_something_from_three_to_one_on() -> None:
    assert choose_remedy((99, 33, 0)) == "logit_adjustment"
    assert settle(config(), COUNTS)["train.logit_adjustment"] == 1.0


@pytest.mark.parametrize("given_by_hand", [{"class_weights": "inverse"}, {"sampler": "sqrt"}, {"views_per_class": 7}, {"loss": "focal"}])
def test_auto_adds_nothing_to_a_remedy_chosen_by_hand(given_by_hand: dict[str, Any]) -> None:
    assert settle(config(**given_by_hand), COUNTS) == plain_but("none", **given_by_hand)


@pytest.mark.parametrize("plain", [{"class_weights": "none"}, {"loss": "cross_entropy"}, {"views_per_class": None}])
def test_auto_is_not_held_back_by_a_value_that_is_no_remedy(plain: dict[str, Any]) -> None:
    assert settle(config(**plain), COUNTS)["train.logit_adjustment"] == 1.0


def test_a_watched_config_settles_alike_and_every_setting_is_read() -> None:
    reads: set[str] = set()
    plain = config(imbalance="views")
    assert settle(watch(plain, reads), COUNTS) == settle(plain, COUNTS)
    assert reads == {"imbalance", "train.label_smoothing", *PLAIN}


# ---- phases ------------------------------------------------------------------------------------------------------------


def test_ldam_adds_weights_after_160_of_200_epochs() -> None:
    assert extra_phases("ldam", 200) == [{"from": 161, "train.class_weights": "effective"}]


@pytest.mark.parametrize("remedy", sorted(set(REMEDIES) - {"ldam", "crt"}))
def test_the_other_remedies_have_no_phase(remedy: str) -> None:
    assert extra_phases(remedy, 200) == []
    assert too_short(remedy, 1) is None


@pytest.mark.parametrize("remedy", ["ldam", "crt"])
@given(epochs=st.integers(1, 1000))
def test_a_late_phase_takes_a_fifth_of_the_run_or_its_absence_is_told(remedy: str, epochs: int) -> None:
    phases = extra_phases(remedy, epochs)
    told = too_short(remedy, epochs)
    assert bool(phases) == (told is None) == (epochs >= 5)
    for phase in phases:
        left = epochs - phase["from"] + 1
        assert epochs / 5 <= left < epochs / 5 + 1


def test_the_sentence_for_a_short_run_says_what_is_lost() -> None:
    assert too_short("crt", 3) == (
        "imbalance=crt needs train.epochs=5 or more for its second phase; with 3 the head is never trained anew."
    )


def test_the_phase_of_crt_trains_a_new_head_on_balanced_draws_with_a_schedule_of_its_own() -> None:
    given_values = {"imbalance": "crt", "train.epochs": 10, "phases": tuple(extra_phases("crt", 10))}
    first, second = phases_of(given_values)
    assert settle(first.config, COUNTS)["train.sampler"] == "shuffle"
    assert settle(second.config, COUNTS) == plain_but("crt", sampler="balanced")
    assert second.first == 9
    assert second.config.model.freeze == "trunk"
    assert second.config.train.reset_head
    assert second.restart == {"schedule", "optimizer"}


def test_the_phase_of_ldam_keeps_its_loss() -> None:
    first, second = phases_of({"imbalance": "ldam", "train.epochs": 10, "phases": tuple(extra_phases("ldam", 10))})
    assert settle(first.config, COUNTS) == {"imbalance": "ldam", **PLAIN, "train.loss": "ldam"}
    assert settle(second.config, COUNTS) == {"imbalance": "ldam", **PLAIN, "train.loss": "ldam", "train.class_weights": "effective"}
    assert second.restart == frozenset()


# ---- contradictions ----------------------------------------------------------------------------------------------------


def told(**values: Any) -> tuple[str, ...]:
    asked = config(**values)
    return contradictions(asked.with_values(settle(asked, COUNTS)))


@pytest.mark.parametrize("remedy", get_args(Remedy))
def test_no_remedy_contradicts_itself(remedy: str) -> None:
    assert told(imbalance=remedy) == ()


def test_weights_and_a_sampler_and_an_adjustment_are_told_by_their_values() -> None:
    assert told(imbalance="weights", sampler="sqrt", logit_adjustment=0.5) == (
        "train.class_weights=inverse, train.sampler=sqrt and train.logit_adjustment=0.5: each counters the imbalance; "
        "together they overcorrect, and rare classes are found too often. Keep one of them.",
    )


@pytest.mark.parametrize(
    "two",
    [
        {"class_weights": "effective", "sampler": "balanced"},
        {"class_weights": "inverse", "views_per_class": 5},
        {"class_weights": "inverse", "posthoc_adjustment": 1.0},
        {"sampler": "balanced", "logit_adjustment": 1.0},
        {"views_per_class": 5, "posthoc_adjustment": 0.1},
    ],
)
def test_any_two_kinds_contradict_each_other(two: dict[str, Any]) -> None:
    (sentence,) = told(imbalance="none", **two)
    assert all(f"train.{name}={value}" in sentence for name, value in two.items())


def test_adjusting_before_and_after_is_told_where_it_is_more_than_once() -> None:
    assert told(imbalance="none", logit_adjustment=0.5, posthoc_adjustment=0.5) == ()
    (sentence,) = told(imbalance="logit_adjustment", posthoc_adjustment=0.5)
    assert "add up to 1.5" in sentence


def test_a_strong_adjustment_alone_is_the_users_choice() -> None:
    assert told(imbalance="none", logit_adjustment=2.0) == ()
