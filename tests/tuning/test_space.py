"""The search space: what may be written, what is refused, and that draws keep to it."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import build
from sightline.errors import SettingsError
from sightline.tuning.space import Choice, Range, read_space

optuna.logging.set_verbosity(optuna.logging.ERROR)

CONDITIONAL = {
    "train.momentum": {"from": 0.5, "to": 0.99, "if": {"train.optimizer": "sgd"}},
    "train.nesterov": {"choice": [True, False], "if": {"train.optimizer": ["sgd"]}},
    "train.optimizer": ["adamw", "sgd"],
    "model.head": [[1600, 1024], [512]],
    "model.depth": {"from": 2, "to": 6},
    "train.lr": {"from": 1e-4, "to": 0.1, "log": True},
    "model.dropout": {"from": 0.0, "to": 0.5, "step": 0.1},
}


def trial(seed: int = 0) -> optuna.Trial:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


@given(st.integers(0, 2**31))
def test_every_draw_is_a_setting_that_may_be_within_the_space(seed: int) -> None:
    space = read_space(CONDITIONAL)
    drawn = space.draw(trial(seed))
    build({path: tuple(value) if isinstance(value, list) else value for path, value in drawn.items()})
    for one in space:
        if one.path in drawn:
            assert one.domain.holds(drawn[one.path])
    assert ("train.momentum" in drawn) == ("train.nesterov" in drawn) == (drawn["train.optimizer"] == "sgd")


def test_what_optuna_keeps_of_a_trial_gives_its_settings_back() -> None:
    space, own = read_space(CONDITIONAL), trial(3)
    drawn = space.draw(own)
    assert space.values(own.params) == drawn
    assert space.values({"model.head": "[1600,1024]", "gone": 1}) == {"model.head": [1600, 1024]}


def test_a_space_that_was_written_is_read_back_the_same() -> None:
    space = read_space(CONDITIONAL)
    assert read_space(space.plain()) == space
    assert list(space.plain())[-2:] == ["train.momentum", "train.nesterov"]  # after what they depend on


def test_whole_numbers_are_told_by_the_setting_not_by_how_the_ends_are_written() -> None:
    space = read_space(
        {"train.weight_decay": {"from": 0, "to": 1}, "model.depth": {"from": 1, "to": 8}, "augment.views": {"from": 1, "to": 4}}
    )
    assert [one.domain.whole for one in space if isinstance(one.domain, Range)] == [False, True, True]


def test_numbers_are_drawn_so_that_a_person_can_write_them() -> None:
    drawn = read_space(CONDITIONAL).draw(trial(5))
    assert drawn["train.lr"] == float(f"{drawn['train.lr']:.4g}")
    assert drawn["model.dropout"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert Range(0.0, 0.5, step=0.1).setting(0.30000000000000004) == 0.3
    assert Range(1e-4, 0.1, log=True).setting(0.1) == 0.1


def test_the_last_step_is_one_that_is_reached() -> None:
    domain = read_space({"model.dropout": {"from": 0.0, "to": 0.5, "step": 0.2}}).dimensions[0].domain
    assert domain == Range(0.0, 0.4, step=0.2)
    assert domain.points() == (0.0, 0.2, 0.4)


def test_a_grid_has_every_value_of_choices_and_steps() -> None:
    space = read_space({"model.depth": {"from": 2, "to": 4}, "augment.policy": ["light", "strong"], "model.head": [[8], [16, 8]]})
    assert space.grid() == {"model.depth": (2, 3, 4), "augment.policy": ("light", "strong"), "model.head": ("[8]", "[16,8]")}
    with pytest.raises(SettingsError, match=r"give train\.lr a `step`"):
        read_space({"train.lr": {"from": 0.1, "to": 1.0}}).grid()
    with pytest.raises(SettingsError, match="conditions"):
        read_space({path: CONDITIONAL[path] for path in ("train.optimizer", "train.nesterov")}).grid()


def test_the_first_trial_takes_what_is_fixed_and_lies_in_the_space() -> None:
    space = read_space(CONDITIONAL)
    given: dict[str, Any] = {"train.lr": 0.01, "model.depth": 9, "model.head": (512,), "train.momentum": 0.9, "train.epochs": 3}
    assert space.first(given) == {"train.lr": 0.01, "model.head": "[512]"}
    assert space.first(given | {"train.optimizer": "sgd"})["train.momentum"] == 0.9


def test_one_is_not_true() -> None:
    assert not Choice((True, False)).holds(1)
    assert not Range(0, 1).holds(True)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"train.lrr": [1, 2]}, r"There is no setting train\.lrr\. Did you mean train\.lr\?"),
        ({"train": [1, 2]}, "train is a group of settings"),
        ({"train.lr": 0.1}, "must be a range"),
        ({"train.lr": [0.1]}, "two different values or more"),
        ({"train.lr": [0.1, 0.1]}, "two different values or more"),
        ({"train.lr": {"from": 0.1, "to": 0.01}}, "from a smaller to a larger number"),
        ({"train.lr": {"from": 0.1}}, "both needed"),
        ({"train.lr": {"from": 0.1, "to": 1, "lgo": True}}, "lgo"),
        ({"train.lr": {"from": "a", "to": 1}}, "are numbers"),
        ({"train.lr": {"from": 0.1, "to": float("inf")}}, "are numbers"),
        ({"train.lr": {"from": 0, "to": 1}}, r"train\.lr must be a number above 0"),
        ({"train.weight_decay": {"from": 0, "to": 1, "log": True}}, "begins above 0"),
        ({"train.weight_decay": {"from": 1, "to": 2, "log": True, "step": 0.5}}, "has no step"),
        ({"train.weight_decay": {"from": 0, "to": 1, "step": 2}}, "step"),
        ({"model.depth": {"from": 1, "to": 4, "step": 0.5}}, "a whole number"),
        ({"model.depth": {"from": 1, "to": 20}}, r"model\.depth must be a whole number from 1 to 8, not 20"),
        ({"augment.policy": ["light", "lihgt"]}, r"augment\.policy must be"),
        ({"split.seed": [1, 2]}, "judged on different images"),
        ({"train.seed": [1, 2]}, "luckiest"),
        ({"device.precision": ["float32", "bfloat16"]}, "where to compute"),
        ({"tune.seed": [1, 2]}, "how to search"),
        ({"train.momentum": {"from": 0.1, "to": 0.9, "if": {"train.optimizer": "sgd"}}}, "which is not searched"),
        ({"train.momentum": {"from": 0.1, "to": 0.9, "if": "sgd"}}, "must name searched settings"),
        (
            {"train.optimizer": ["adam", "adamw"], "train.momentum": {"from": 0.1, "to": 0.9, "if": {"train.optimizer": "sgd"}}},
            r"train\.optimizer=sgd, which is not among its values",
        ),
        (
            {"train.lr": {"from": 0.1, "to": 1}, "train.momentum": {"from": 0.1, "to": 0.9, "if": {"train.lr": 0.5}}},
            "which is a range",
        ),
        (
            {
                "train.nesterov": {"choice": [True, False], "if": {"train.amsgrad": True}},
                "train.amsgrad": {"choice": [True, False], "if": {"train.nesterov": True}},
            },
            "circle",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_one_sentence(raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as error:
        read_space(raw)
    assert "tune.space" in str(error.value)
