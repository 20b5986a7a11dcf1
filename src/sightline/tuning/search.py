"""One worker's part in a study: it takes trials, tells how they go, and takes over from workers that died.

    search = Search.open(storage, name, folder, tune, space, objectives, epochs, say)
    while (ticket := search.take(most=30)) is not None:
        with ticket.running():
            ticket.tell(epoch, value)  -> True: give it up
        search.finish(ticket, values, facts)

A trial that a worker has is known by a locked file in FOLDER/workers, which the system frees when the worker dies, however;
so a trial of this machine goes on at once. Of workers on other machines the sign of life in the database, or the age of
that file on a shared disk, has to be waited for. The dead trial is failed, once and for all, and a new one goes on
from its checkpoint with the same settings; Optuna's retry does it so. After `DEATHS` deaths it stays failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import files
from sightline.errors import StudyError
from sightline.settings import TuneSettings
from sightline.tuning.objective import Objective
from sightline.tuning.pruner import choose_pruner, make_pruner
from sightline.tuning.record import State, Trial
from sightline.tuning.sampler import combinations, make_sampler
from sightline.tuning.space import Space
from sightline.tuning.storage import GRACE, Beating, Storage, patiently

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

DEATHS = 3
"""A trial whose worker dies so often is not tried again: it may be what kills them."""

_STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass
class Ticket:
    """A trial that this worker has."""

    trial: optuna.Trial
    place: int  # number of its folder
    chosen: dict[str, Any]
    lock: int  # an open file
    beat: Callable[[], None]
    patient: Callable[[Callable[[], Any]], Any]
    told: set[int] = field(default_factory=set)

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.trial.number

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Signs of life are given meanwhile."""
        with Beating(self.beat):
            yield

    def tell(self, step: int, value: float) -> bool:
        """Reports a step; True where the trial should be ended. One that was told before it was resumed is not told again."""
        if step not in self.told:
            self.told.add(step)
            self.patient(lambda: self.trial.report(value, step))
        return bool(self.patient(self.trial.should_prune))


@dataclass
class Search:
    """A study as one worker sees it."""

    study: optuna.Study
    folder: Path
    tune: TuneSettings
    space: Space
    objectives: Sequence[Objective]
    storage: Storage
    pruner: str
    say: Callable[[str], None]

    @classmethod
    def open(
        cls,
        storage: Storage,
        name: str,
        folder: Path,
        tune: TuneSettings,
        space: Space,
        objectives: Sequence[Objective],
        epochs: int,
        say: Callable[[str], None],
    ) -> Search:
        """The study of this name in the storage; made where there is none."""
        import optuna

        pruner = choose_pruner(tune, objectives)
        study = patiently(
            lambda: optuna.create_study(
                storage=storage.kept,
                study_name=name,
                directions=[one.direction for one in objectives],
                load_if_exists=True,
                pruner=make_pruner(pruner, tune, epochs),
            ),
            storage.name,
            say,
        )
        files.make_folder(folder / "workers")
        return cls(study, folder, tune, space, objectives, storage, pruner, say)

    # ---- what the study is about -----------------------------------------------------------------------------------

    def identity(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What the study was begun with; `own`, where this worker begins it."""
        found = self._patiently(lambda: self.study.user_attrs).get("sightline")
        if found is None:
            self._patiently(lambda: self.study.set_user_attr("sightline", dict(own)))
            return dict(own)
        return dict(found)

    def knows(self, folder: str) -> bool:
        """Whether a study's folder of this name has joined it."""
        return f"folder {folder}" in self._patiently(lambda: self.study.user_attrs)

    def join(self, folder: str) -> None:
        """Trials of this study may lie in a folder of this name; machines without a shared disk have one each."""
        self._patiently(lambda: self.study.set_user_attr(f"folder {folder}", True))

    def begin_with(self, first: Mapping[str, Any]) -> None:
        """The first trial of a study takes these settings."""
        if first and self.tune.sampler != "grid":
            with files.locked(self.folder):
                if not self._trials():
                    self._patiently(lambda: self.study.enqueue_trial(dict(first)))

    # ---- taking trials -----------------------------------------------------------------------------------------------

    def take(self, most: int) -> Ticket | None:
        """The next trial; None where `most` have begun and none waits."""
        if self.tune.sampler == "grid":
            most = min(most, combinations(self.space))
        with files.locked(self.folder):
            self.take_over()
            known = self._trials()
            begun = len(known) - len(_retried(known))
            if begun >= most and not any(trial.state.name == "WAITING" for trial in known):
                return None
            self.study.sampler = make_sampler(self.tune, self.space, self.objectives, begun)
            trial = self._patiently(self.study.ask)
            lock = self._hold(trial.number)
            worker = {"host": socket.gethostname(), "folder": str(self.folder.resolve()), "process": os.getpid()}
            self._patiently(lambda: trial.set_user_attr("worker", worker))
        chosen = self._patiently(lambda: self.space.draw(trial))
        frozen = self._patiently(lambda: self.study._storage.get_trial(trial._trial_id))
        place = frozen.system_attrs.get("failed_trial", trial.number)
        return Ticket(trial, place, chosen, lock, lambda: self._beat(trial), self._patiently, set(frozen.intermediate_values))

    def others(self) -> int:
        """How many trials are running elsewhere."""
        return sum(trial.state.name == "RUNNING" for trial in self._trials())

    def _beat(self, trial: optuna.Trial) -> None:
        os.utime(self._lock_file(trial.number))
        if self.storage.database:
            self.storage.kept.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]

    # ---- how trials end ----------------------------------------------------------------------------------------------

    def finish(self, ticket: Ticket, values: Sequence[float], facts: Mapping[str, Any]) -> None:
        """It is complete."""
        self._note(ticket, facts)
        self._patiently(lambda: self.study.tell(ticket.trial, list(values)))
        self._let_go(ticket)

    def prune(self, ticket: Ticket, facts: Mapping[str, Any]) -> None:
        """It was ended early."""
        import optuna

        self._note(ticket, facts)
        self._patiently(lambda: self.study.tell(ticket.trial, state=optuna.trial.TrialState.PRUNED))
        self._let_go(ticket)

    def fail(self, ticket: Ticket, reason: str) -> None:
        """It failed, and why."""
        import optuna

        self._note(ticket, {"reason": reason})
        self._patiently(lambda: self.study.tell(ticket.trial, state=optuna.trial.TrialState.FAIL))
        self._let_go(ticket)

    def set_aside(self, ticket: Ticket) -> None:
        """It was stopped by the user and waits for whoever goes on; nothing of it is lost."""
        import optuna

        waiting = optuna.trial.TrialState.WAITING
        self._patiently(lambda: self.study._storage.set_trial_state_values(ticket.trial._trial_id, waiting))
        self._let_go(ticket)

    def _note(self, ticket: Ticket, facts: Mapping[str, Any]) -> None:
        for name, value in facts.items():
            self._patiently(lambda name=name, value=value: ticket.trial.set_user_attr(name, value))  # type: ignore[misc]

    # ---- workers that died -------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Trials of dead workers are failed, and others take their place."""
        import optuna

        if self.storage.database:
            self._patiently(lambda: optuna.storages.fail_stale_trials(self.study))
        for trial in self._trials():
            if trial.state.name == "RUNNING" and self._is_dead(trial):
                try:
                    self.study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
                except optuna.exceptions.UpdateFinishedTrialError:  # somebody else was faster
                    continue
                go_on_from(self.study, trial)
                self._lock_file(trial.number).unlink(missing_ok=True)
                self.say(f"The worker of trial {trial.number} was killed; the trial goes on from its checkpoint.")

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether nobody has a trial that is said to run."""
        worker = trial.user_attrs.get("worker")
        lock = self._lock_file(trial.number)
        here = worker is not None and worker["host"] == socket.gethostname() and worker["folder"] == str(self.folder.resolve())
        if here:
            return _is_free(lock)
        if worker is None:  # killed before it could say who it was, or asking at this moment
            started = trial.datetime_start
            return started is not None and (datetime.now() - started).total_seconds() > GRACE and _is_free(lock)
        if self.storage.database:  # its sign of life is there
            return False
        return lock.exists() and self._clock() - lock.stat().st_mtime > GRACE

    def _clock(self) -> float:
        """The time as the disk of the study has it; that of other machines may differ."""
        path = self.folder / "workers" / ".clock"
        path.touch()
        return path.stat().st_mtime

    def _lock_file(self, number: int) -> Path:
        return self.folder / "workers" / f"{number:04d}.lock"

    def _hold(self, number: int) -> int:
        handle = os.open(self._lock_file(number), os.O_RDWR | os.O_CREAT, 0o644)
        with contextlib.suppress(OSError):  # where files cannot be locked, their age has to do
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle

    def _let_go(self, ticket: Ticket) -> None:
        with contextlib.suppress(OSError):
            self._lock_file(ticket.number).unlink(missing_ok=True)
            os.close(ticket.lock)

    # ---- what is known -----------------------------------------------------------------------------------------------

    def records(self) -> list[Trial]:
        """All trials, in their order."""
        known = self._trials()
        lost = _retried(known)
        return [self._record(trial, trial.number in lost) for trial in known]

    def _record(self, trial: FrozenTrial, lost: bool) -> Trial:
        facts = dict(trial.user_attrs)
        state: State = "lost" if lost else _STATES[trial.state.name]
        reason = facts.pop("reason", None)
        if reason is None and state in ("lost", "failed"):
            reason = "its worker was killed" + ("" if lost else f" {DEATHS} times or more")
        return Trial(
            trial.number,
            trial.system_attrs.get("failed_trial", trial.number),
            state,
            None if trial.values is None else tuple(trial.values),
            self.space.values(trial.params),
            dict(sorted(trial.intermediate_values.items())),
            facts,
            reason,
        )

    def importances(self) -> dict[str, float]:
        """The share of each setting in how trials differ by the first objective, the largest first; empty where nobody can say.

        fANOVA (Hutter et al. 2014) of the complete trials; PED-ANOVA (Watanabe et al. 2023) where there are conditions.
        """
        import optuna

        evaluator = None if self.space.conditional else optuna.importance.FanovaImportanceEvaluator(seed=0)
        sign = -1.0 if self.objectives[0].larger else 1.0  # PED-ANOVA asks what makes the target small; fANOVA knows no sign
        try:
            with warnings.catch_warnings():  # of PED-ANOVA about this sign, and about settings that few trials had
                warnings.simplefilter("ignore")
                return dict(
                    optuna.importance.get_param_importances(self.study, evaluator=evaluator, target=lambda trial: sign * trial.values[0])
                )
        except (ValueError, RuntimeError, ZeroDivisionError):  # too few trials, or all alike
            return {}

    def _trials(self) -> list[FrozenTrial]:
        return self._patiently(lambda: self.study.get_trials(deepcopy=False))  # type: ignore[no-any-return]

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        return patiently(ask, self.storage.name, self.say)


def go_on_from(study: optuna.Study, trial: FrozenTrial) -> None:
    """A trial with the same settings waits in the place of one that died, unless that died too often."""
    import optuna

    history = [*trial.system_attrs.get("retry_history", []), trial.number]
    if len(history) >= DEATHS:
        return
    first = trial.system_attrs.get("failed_trial", trial.number)
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={name: value for name, value in trial.user_attrs.items() if name != "worker"},
            system_attrs=dict(trial.system_attrs) | {"failed_trial": first, "retry_history": history},
            intermediate_values=trial.intermediate_values,
        )
    )


def _retried(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of trials that others went on from."""
    return {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}


def _is_free(lock: Path) -> bool:
    """Whether no process of this machine holds a lock."""
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def refuse_difference(begun: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    """Raises StudyError where a study was begun with something else than what is asked for now: with what."""
    told = list(_differences(begun, now))
    if told:
        raise StudyError(
            f"The study {name} was begun with something else: {'; '.join(told)}. Give the same to go on with it, or another --study NAME."
        )


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    from sightline.config import show

    for part in dict.fromkeys([*begun, *now]):
        before, after = begun.get(part), now.get(part)
        if before == after:
            continue
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            yield f"{part} was {show(before)}, now it is {show(after)}"
            continue
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                was = show(before[key]).strip() if key in before else "not there"
                yield f"{part} {key} was {was}, now it is {show(after[key]).strip() if key in after else 'not there'}"
