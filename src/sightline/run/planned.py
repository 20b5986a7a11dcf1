"""A run that a time budget plans: its costs measured, its epochs and the size of its pictures chosen, its end held.

fit = fit_into(Budget.of("10m"), Fit(folder, given, reads, recipe, prepared, screen))
metrics, notes = fit.go()
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from sightline.config import build
from sightline.models.catalog import native_size
from sightline.run.budget import Amounts, Budget, Deadline, plan_budget, sentence, sizes_to_try
from sightline.run.fit import Fit
from sightline.run.rates import measure
from sightline.run.settle import settle
from sightline.watched import watch

REPORT_LOOPS = 1000
"""The embedding, the heat maps and the page of `train.report` take as long as `_loop` so many times: 6.4 s on two cores of an EPYC, where
5 to 5.5 were seen (docs/log.md, "Budgets"); most of it is work of one thread."""

JUDGED = 2.5
"""How often the network answers for an image of val or test when all is done: temperature, figures, novelty and embedding."""


def fit_into(budget: Budget, fit: Fit) -> Fit:
    """The run with the size and the epochs that fit into the time, as they will be found in its ledger and config."""
    recipe, prepared, given = fit.recipe, fit.prepared, fit.given
    own = given.get("data.size", "auto") != "auto" or native_size(recipe.config.model.name) is not None
    first = recipe.config.train.first_size
    sizes = (recipe.size,) if own else sizes_to_try(recipe.size, first if isinstance(first, int) else 0)
    with fit.screen.step("measuring how long an epoch takes"):
        costs = [measure(size, given, recipe, prepared) for size in sizes]
    amounts = _amounts(fit)
    plan = plan_budget(budget.left(), costs, amounts)
    fit.screen.say(sentence(budget, plan, costs[0].shown))
    values = plan.values() | {"data.store_size": recipe.side}
    given = {**given, **values}
    settled = settle(watch(build(given), fit.reads), prepared.table)
    fit.folder.note("budget", seconds=budget.seconds, values=values, costs=[asdict(cost) for cost in costs])
    return replace(fit, given=given, recipe=settled, deadline=Deadline(budget, plan))


def _amounts(fit: Fit) -> Amounts:
    split, config = fit.prepared.split, fit.recipe.config
    val, test = len(split.rows("val")), len(split.rows("test"))
    return Amounts(val, round(JUDGED * (val + test)), REPORT_LOOPS * min(_loop() for _ in range(5)) if config.train.report else 1.0)


def _loop() -> float:
    """Seconds of a piece of the interpreter's work: how fast this machine is with one thread."""
    started, total = time.perf_counter(), 0
    for number in range(150_000):
        total += number * number % 7
    return time.perf_counter() - started
