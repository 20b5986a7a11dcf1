"""The phases of a run with everything settled that depends on the images: remedies, rates, orders, schedules.

    task = Task(network, pretrained, prepared, view, device, say)
    planned = plan_phases(given, task)            nothing is trained or computed yet

Class counts come from the train part alone. A schedule spans all phases up to the next that changes or restarts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sightline import processes
from sightline.config import Config, Phase, build, phases_of, show
from sightline.data.batches import Order
from sightline.errors import SettingsError
from sightline.models.compact import first_side
from sightline.run.prefix import settle_prefix
from sightline.run.task import Planned, Task, restarts_schedule
from sightline.training.imbalance import PLAIN, SHORTEST, contradictions, extra_phases, settle, too_short
from sightline.training.optim import automatic_ema, automatic_lr, automatic_optimizer
from sightline.training.sampling import build_sampling


def plan_phases(given: Mapping[str, Any], task: Task) -> list[Planned]:
    """The phases of a run with everything settled that depends on the images.

    Args:
        given: the user's settings by dotted path, whole-run values such as the size and the device already settled.
    """
    phases = phases_of(with_remedy(given, task.counts))
    firsts = [phase.first - 1 for phase in phases]
    lasts = [*firsts[1:], phases[0].config.train.epochs]
    settled = [_settled(phase, last - first, task) for phase, first, last in zip(phases, firsts, lasts, strict=True)]
    orders = [_order(config, task) for config in settled]
    updates = [-(-len(order) // config.train.accumulate) for order, config in zip(orders, settled, strict=True)]
    steps = [u * (last - first) for u, first, last in zip(updates, firsts, lasts, strict=True)]
    origins = [i for i, phase in enumerate(phases) if i == 0 or restarts_schedule(phase)]
    planned = []
    for i, phase in enumerate(phases):
        origin = max(o for o in origins if o <= i)
        end = min([o for o in origins if o > i], default=len(phases))
        schedule = (sum(steps[:origin]), sum(steps[origin:end]))
        planned.append(Planned(phase, settled[i], orders[i], range(firsts[i], lasts[i]), schedule))
    return planned


def with_remedy(given: Mapping[str, Any], counts: Sequence[int]) -> dict[str, Any]:
    """The settings with the phases that the remedy against imbalance brings (`ldam`, `crt`), if they do not hold them already.

    Raises:
        SettingsError: such a remedy stands in a phase, which would not bring that phase.
    """
    base = build({path: value for path, value in given.items() if path != "phases"})
    remedy = settle(base, counts)["imbalance"]
    more = late_phases(given, remedy)
    for phase in phases_of(given)[1:]:
        _refuse_late_remedy(phase, remedy)
    if not more:
        return dict(given)
    by_epoch: dict[Any, dict[str, Any]] = {}
    for raw in (*more, *given.get("phases", ())):  # where both begin with the same epoch, the user's values hold
        by_epoch[raw.get("from")] = {**by_epoch.get(raw.get("from"), {}), **raw}
    return {**given, "imbalance": remedy, "phases": tuple(sorted(by_epoch.values(), key=lambda raw: raw["from"]))}


def late_phases(given: Mapping[str, Any], remedy: str) -> list[dict[str, Any]]:
    """The phases that a remedy brings, but for those which the settings hold already."""
    own = phases_of(given)
    return [raw for raw in extra_phases(remedy, own[0].config.train.epochs) if not any(_holds(phase, raw) for phase in own[1:])]


def _refuse_late_remedy(phase: Phase, whole: str) -> None:
    remedy = phase.changed.get("imbalance", whole)
    late = [] if remedy == whole else extra_phases(remedy, SHORTEST)
    if late:
        written = ", ".join(f"{path}: {show(value)}" for path, value in (late[0] | {"from": phase.first}).items())
        raise SettingsError(f"imbalance={remedy} is for a whole run; give what it does late as a phase instead: {{{written}}}.")


def _holds(phase: Phase, raw: Mapping[str, Any]) -> bool:
    """Whether a phase already does what a remedy's would."""
    return all(phase.changed.get(path) == value for path, value in raw.items() if path not in ("from", "restart"))


def settled_phases(given: Mapping[str, Any], planned: Sequence[Planned]) -> tuple[dict[str, Any], ...]:
    """The user's phases, each with those values that were settled for it and are not those of the phase before.

    Beside the settled values of the first phase nothing is left for a later one to settle; with these they repeat the run.
    A phase that a remedy brings is among them only where something was settled for it.
    """
    users = {raw["from"]: raw for raw in given.get("phases", ())}
    found = []
    for before, now in pairwise(planned):
        phase, old = now.phase, _values_of(before.config)
        values = {
            path: value for path, value in _values_of(now.config).items() if value not in ("auto", old[path]) and path not in phase.changed
        }
        if phase.first in users:
            found.append(users[phase.first] | values)
        elif values:
            found.append({"from": phase.first, **phase.changed, "restart": sorted(phase.restart), **values})
    return tuple(found)


def _values_of(config: Config) -> dict[str, Any]:
    """What is settled for each phase."""
    paths = (*PLAIN, "train.label_smoothing", "train.optimizer", "train.lr", "train.first_size", "train.prefix", "augment.views")
    return {path: getattr(getattr(config, path.partition(".")[0]), path.partition(".")[2]) for path in paths}


def _settled(phase: Phase, epochs: int, task: Task) -> Config:
    config = phase.config
    values = settle(config, task.counts)
    optimizer: str = config.train.optimizer
    if optimizer == "auto":
        values["train.optimizer"] = optimizer = automatic_optimizer(config.model)
    if config.train.lr == "auto":
        values["train.lr"] = automatic_lr(optimizer, task.pretrained)
    if config.train.ema == "auto":
        shown = min(len(task.rows), config.train.images_per_epoch or len(task.rows))
        values["train.ema"] = automatic_ema(config.model, shown / (config.train.batch_size * config.train.accumulate))
    if config.train.first_size == "auto":
        values["train.first_size"] = _first_size(config, task)
    config = config.with_values(values)
    return config.with_values(settle_prefix(task, config, epochs))


def _first_size(config: Config, task: Task) -> int | None:
    """What `train.first_size=auto` stands for."""
    plain = task.pretrained or task.pipeline is not None or config.model.freeze not in ("none", ())
    if plain or not config.model.name.startswith("sightline_"):
        return None
    first = first_side(task.view.size)
    return first if first <= 5 / 6 * task.view.size else None


def _order(config: Config, task: Task) -> Order:
    sampling = build_sampling(config.train, task.prepared.labels[task.rows], config.train.seed)
    order = Order(len(task.rows), config.train.batch_size, config.train.seed, sampling, processes.share())
    if order.smallest < order.share.parts:
        raise SettingsError(
            f"torchrun started {order.share.parts} processes, each needs an image of every batch, and a batch has {order.smallest} of the "
            f"{order.count} training images: use a smaller --nproc-per-node, or a larger train.batch_size."
        )
    return order


def notes_of(planned: Sequence[Planned]) -> tuple[str, ...]:
    """What the user should know of the phases."""
    first = planned[0].config
    found = [note for note in [too_short(first.imbalance, first.train.epochs)] if note]
    for one in planned:
        found += contradictions(one.config)
        if one.phase.first > 1:
            changes = ", ".join(f"{path}={show(value)}" for path, value in one.phase.changed.items()) or "a restart"
            found.append(f"Phase {planned.index(one) + 1} begins with epoch {one.phase.first}: {changes}.")
    return tuple(dict.fromkeys(found))


def never_begun(planned: Sequence[Planned], epochs: int) -> tuple[str, ...]:
    """The sentence for a run that ended after so many epochs, before its last phases; none where all began."""
    late = [number for number, one in enumerate(planned, 1) if one.epochs.start >= epochs]
    return (f"train.patience ended training with epoch {epochs}, before phase {late[0]} began.",) if late else ()
