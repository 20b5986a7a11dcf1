"""One switch for classes of unequal size: what each `imbalance=NAME` sets.

    values = settle(config, counts)                      {"imbalance": "logit_adjustment", "train.loss": "cross_entropy", ...}
    phases = extra_phases(values["imbalance"], epochs)   ldam and crt change settings late in the run
    notes = contradictions(settled)                      sentences where two remedies act at once

A remedy is nothing but values of settings: each can be set by itself, and what was set by itself holds. It gives up
remedies that need more than the counts of the train part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.config import Config

PLAIN: dict[str, Any] = {
    "train.loss": "cross_entropy",
    "train.class_weights": "none",
    "train.sampler": "shuffle",
    "train.views_per_class": None,
    "train.logit_adjustment": 0.0,
    "train.posthoc_adjustment": 0.0,
}
"""The settings that a remedy may set, at the values that do nothing about imbalance."""

LARGEST = "largest"  # stands for the size of the largest class, which only the data tell

REMEDIES: dict[str, dict[str, Any]] = {
    "none": {},
    "weights": {"train.class_weights": "inverse"},
    "effective_weights": {"train.class_weights": "effective"},  # Cui et al. 2019
    "sampler": {"train.sampler": "balanced"},
    "sqrt_sampler": {"train.sampler": "sqrt"},  # Mahajan et al. 2018
    "views": {"train.views_per_class": LARGEST},
    "focal": {"train.loss": "focal"},  # Lin et al. 2017
    "balanced_focal": {"train.loss": "focal", "train.class_weights": "effective"},  # Cui et al. 2019, section 4
    "logit_adjustment": {"train.logit_adjustment": 1.0},  # Menon et al. 2021; Ren et al. 2020
    "posthoc_adjustment": {"train.posthoc_adjustment": 1.0},  # Menon et al. 2021
    "ldam": {"train.loss": "ldam"},  # Cao et al. 2019; weights come with its phase
    "crt": {},  # Kang et al. 2020; all of it is its phase
}
"""What each remedy sets; the others of PLAIN stay as they are there."""

UNBALANCED = 3.0
"""imbalance=auto does something from this ratio of the largest class to the smallest on."""

FOR_UNBALANCED = "logit_adjustment"
"""What imbalance=auto does then."""

SMOOTHING = 0.1
"""train.label_smoothing=auto (Szegedy et al. 2016). Not with logit adjustment: an adjusted target of equal shares makes
the rare classes' own logits the largest. On simpsons-28px-longtail, 20 epochs, seed 0, test: balanced accuracy 40.6 with
0.1 and 64.3 without; 46.9 and 46.5 without adjustment."""

SHORTEST = 5
"""A run of fewer epochs has no late phase: a fifth of it would not be one epoch."""


def settle(config: Config, counts: Sequence[int]) -> dict[str, Any]:
    """The remedy by its name, and the value of every setting that it may set, by dotted path; none is "auto".

    A value that the user gave holds. Where one of them already is a remedy, imbalance=auto adds none to it.

    Args:
        config: or a watched view of it; phases have their own.
        counts: images a class of the train part; a class may have none.
    """
    given = _values(config)
    remedy: str = config.imbalance
    if remedy == "auto":
        by_hand = any(value not in ("auto", PLAIN[path]) for path, value in given.items())
        remedy = "none" if by_hand else choose_remedy(counts)
    preset = PLAIN | REMEDIES[remedy]
    values = {path: preset[path] if value == "auto" else value for path, value in given.items()}
    if values["train.views_per_class"] == LARGEST:
        values["train.views_per_class"] = int(max(counts))
    if values["train.loss"] == "cross_entropy":  # the only loss that reads it
        adjusted = values["train.logit_adjustment"] or values["train.posthoc_adjustment"]
        smoothing = config.train.label_smoothing
        values["train.label_smoothing"] = (0.0 if adjusted else SMOOTHING) if smoothing == "auto" else smoothing
    return {"imbalance": remedy, **values}


def choose_remedy(counts: Sequence[int]) -> str:
    """What imbalance=auto stands for, from the images a class of the train part; classes without any do not count."""
    present = [n for n in counts if n > 0]
    return FOR_UNBALANCED if max(present) >= UNBALANCED * min(present) else "none"


def extra_phases(remedy: str, epochs: int) -> list[dict[str, Any]]:
    """The phases of a remedy, as `config.phases` has them; they begin after 80 % of the epochs, if there are 5 or more.

    ldam: weights by effective number from then on (Cao et al. 2019, algorithm 1; theirs begins after 160 of 200 epochs).
    crt: the trunk frozen, a new head trained on balanced draws (Kang et al. 2020, section 4), its schedule its own.
    """
    if remedy not in ("ldam", "crt") or too_short(remedy, epochs):
        return []
    first = epochs * 4 // 5 + 1
    if remedy == "ldam":
        return [{"from": first, "train.class_weights": "effective"}]
    head_alone = {"model.freeze": "trunk", "train.reset_head": True, "train.sampler": "balanced"}
    return [{"from": first, **head_alone, "restart": ["schedule", "optimizer"]}]


def too_short(remedy: str, epochs: int) -> str | None:
    """The sentence for a run that ends before the late phase of its remedy; None where there is nothing to tell."""
    lost = {"ldam": "class weights are never added", "crt": "the head is never trained anew"}.get(remedy)
    if lost is None or epochs >= SHORTEST:
        return None
    return f"imbalance={remedy} needs train.epochs={SHORTEST} or more for its second phase; with {epochs} {lost}."


def contradictions(config: Config) -> tuple[str, ...]:
    """Sentences, none or up to two, where several settings act against the imbalance at once.

    Args:
        config: with the values of `settle`.
    """
    values = _values(config)
    kinds = (
        ("train.class_weights",),
        ("train.sampler", "train.views_per_class"),
        ("train.logit_adjustment", "train.posthoc_adjustment"),
    )
    acting = [[f"{path}={values[path]}" for path in kind if values[path] != PLAIN[path]] for kind in kinds]
    sentences = []
    if sum(map(bool, acting)) > 1:
        names = [name for kind in acting for name in kind]
        sentences.append(
            f"{', '.join(names[:-1])} and {names[-1]}: each counters the imbalance; together they overcorrect, and rare classes "
            "are found too often. Keep one of them."
        )
    before, after = values["train.logit_adjustment"], values["train.posthoc_adjustment"]
    if before and after and before + after > 1:
        sentences.append(
            f"train.logit_adjustment={before} and train.posthoc_adjustment={after} add up to {before + after:g}; 1 is what makes "
            "classes of unequal size equal."
        )
    return tuple(sentences)


def _values(config: Config) -> dict[str, Any]:
    return {path: getattr(config.train, path.removeprefix("train.")) for path in PLAIN}
