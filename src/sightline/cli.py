"""The command line: each command parses, makes one call, and echoes. Heavy imports happen inside the commands.

Results go to standard output, progress and notes to standard error. Exit status: 0 done; 1 a finding under --strict;
2 something that you can mend; 130 interrupted, with the command that resumes; 143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sightline.errors import Elsewhere, SightlineError
from sightline.files import quoted
from sightline.processes import is_main, together, told, world
from sightline.run.ahead import NOT_BEGUN, decoding_ahead

app = typer.Typer(
    name="sightline",
    help="From a folder of labelled images to a classifier you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ROAD, _GOOD, _MORE = "From a folder to a classifier", "How good it is, and why", "More"  # panels of the help
_WORDS = {"ignore_unknown_options": True}  # who writes --epochs 3 is told which setting that is

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
Trained = Annotated[str, typer.Argument(metavar="RUN", help="A run folder; its classifier/ folder will do.")]


@contextmanager
def _heavy_imports() -> Iterator[None]:
    """Without collecting garbage: torch's objects would be looked through again and again, for an eighth of its import, and at the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("sightline"))
        raise typer.Exit


_SHARED = ("train", "evaluate", "predict")  # what several processes do together


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """From a folder of labelled images to a classifier you can trust."""
    if world() > 1 and context.invoked_subcommand not in _SHARED:
        raise SightlineError(f"torchrun is for {', '.join(_SHARED)}: start `sightline {context.invoked_subcommand}` by itself.")


@app.command(rich_help_panel=_ROAD)
def demo(
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help="Where to write; must not exist yet.")] = "sightline-demo",
    as_json: Json = False,
) -> None:
    """The whole road on handwritten digits: about a minute, no network."""
    with _heavy_imports():
        from sightline.run.demo import demo as run_demo

    _echo(run_demo(Path(folder)), as_json)


@app.command(rich_help_panel=_ROAD, context_settings=_WORDS)
def audit(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Labelled images, or a CSV or Parquet table.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings of data and split.")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Write audit.json and audit.html there.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 where a person should look.")] = False,
    as_json: Json = False,
) -> None:
    """What is in a folder, and what is wrong with it: broken files, twins, leaks, conflicts, odd pictures. Nothing is changed."""
    with _heavy_imports():
        from sightline.run.audit import audit as run_audit

    result = run_audit(folder, words or [], out)
    written = f"\n\nPage        {Path(out) / 'audit.html'}" if out is not None else ""
    _echo({**result.to_json(), "text": result.text() + written}, as_json)
    failures = result.strict_failures() if strict else []
    if failures:
        _say(f"--strict: {'; '.join(failures)}.")
        raise typer.Exit(1)


@app.command(rich_help_panel=_ROAD, context_settings=_WORDS)
def train(
    words: Annotated[list[str] | None, typer.Argument(metavar="FOLDER [KEY=VALUE ...]", help="Labelled images, then settings.")] = None,
    recipe: Annotated[str | None, typer.Option("-c", "--config", metavar="RECIPE.yaml", help="Settings from a file.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="DIR", help="Where to write (default: runs/NAME-DATE-TIME).")] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run instead of starting one.")] = None,
    accept: Annotated[bool, typer.Option("--accept-changes", help="Resume although images are gone, new or changed.")] = False,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Be done in this time, such as 10m (600: seconds): epochs and size to fit."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier from FOLDER/CLASS/image, FOLDER/{train,val,test}/CLASS/image, or a CSV or Parquet table.

    Settings are KEY=VALUE words, such as train.epochs=20; `sightline settings` lists them. With --resume, those that a
    phase may change hold from the next epoch on.
    """
    words = words or []
    with decoding_ahead(words[0], words[1:], recipe) if words and resume is None else nullcontext(NOT_BEGUN) as ahead:
        with _heavy_imports():
            from sightline.run import train as training

        if resume is not None:
            _refuse(budget is not None, "--budget is for a new run: a resumed one has its epochs.")
            _refuse(recipe is not None or run is not None, "--resume takes no -c and no --run: the run has its own.")
            _refuse(bool(words) and "=" not in words[0], f"--resume takes settings only: leave {words[0] if words else ''} out.")
            result = training.resume(resume, words, accept)
        else:
            _refuse(accept, "--accept-changes goes with --resume RUN.")
            _refuse(not words, "Name the folder of images: sightline train FOLDER.")
            result = training.train(words[0], words[1:], recipe, run, budget=budget, ahead=ahead)
    _echo(_trained(result), as_json)


@app.command(rich_help_panel=_ROAD, context_settings=_WORDS)
def tune(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Labelled images, or a CSV or Parquet table.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings; tune.* says how to search.")] = None,
    recipe: Annotated[
        str | None, typer.Option("-c", "--config", metavar="RECIPE.yaml", help="Settings from a file; its tune section has the space.")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="Trials of the whole study, all workers together.")] = 30,
    study: Annotated[
        str | None, typer.Option("--study", metavar="NAME", help="Its name, for a folder in runs/, or a path (default: FOLDER-tune).")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="journal, journal:FILE or postgresql://...; default: SQLite in the study's folder."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="No trial begins after so many seconds; 90m and 2h too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search settings: many trainings, those that promise little ended early; the best is trained again and judged on test.

    The same command goes on with the same study; started several times, the workers share it.
    """
    with _heavy_imports():
        from sightline.run.tune import tune as run_tune

    result = run_tune(folder, words or [], recipe, trials, study, storage, timeout)
    _echo({**result.to_json(), "text": result.text()}, as_json)


@app.command(rich_help_panel=_GOOD)
def evaluate(
    run: Run,
    folder: Annotated[str | None, typer.Argument(metavar="[FOLDER]", help="Labelled images of your own; else the run's.")] = None,
    split: Annotated[str, typer.Option("--split", help="test or val, of the run's own images.")] = "test",
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where to write the figures.")] = None,
    tta: Annotated[int, typer.Option("--tta", metavar="N", help="Test-time augmentation: the mean of N views, up to 10.")] = 1,
    as_json: Json = False,
) -> None:
    """Figures with intervals: of the run's test part, its val part, or another folder."""
    with _heavy_imports():
        from sightline.evaluation.text import classification_report
        from sightline.run.evaluate import evaluate as run_evaluate

    metrics = run_evaluate(run, folder, split, out, tta)
    _echo({"metrics": metrics, "text": classification_report(metrics)}, as_json)


@app.command(rich_help_panel=_GOOD)
def report(run: Run, as_json: Json = False) -> None:
    """Write RUN/report.html anew: all that is known of a run, in one file that opens anywhere."""
    with _heavy_imports():
        from sightline.run.report import report as run_report

    path = run_report(run)
    _echo({"report": str(path), "text": f"Report      {path}"}, as_json)


@app.command(rich_help_panel=_GOOD)
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Run folders; each is compared with the first.")],
    split: Annotated[
        str, typer.Option("--split", help="test, val, folds, or the name of another folder that all have evaluated.")
    ] = "test",
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write .json or .txt.")] = None,
    as_json: Json = False,
) -> None:
    """Which run is better, on the same images: paired differences with intervals, and whether there are enough images to say."""
    with _heavy_imports():
        from sightline.run.compare import compare as run_compare

    found = run_compare(runs, split)
    if out is not None:
        found.write(Path(out))
    _echo({**found.to_json(), "text": found.text().rstrip("\n")}, as_json)


@app.command(rich_help_panel=_GOOD)
def labels(
    run: Run,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where to write (default: RUN/labels).")] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", help="Suspects on the page; the table has all.")] = 300,
    as_json: Json = False,
) -> None:
    """Rank the labels that look wrong, and write a page on which you decide; split.folds=5 lets all images be judged."""
    with _heavy_imports():
        from sightline.run.labels import labels as run_labels

    review = run_labels(run, out, most)
    _echo({**review.facts(), "text": review.text()}, as_json)


@app.command(rich_help_panel=_GOOD)
def embed(
    run: Run,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    method: Annotated[str, typer.Option("--method", help="tsne, or umap, which needs the extra of that name.")] = "tsne",
    seed: Annotated[int, typer.Option("--seed", help="Of the method's random draws.")] = 0,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Images to draw; of more a sample.")] = 5_000,
    as_json: Json = False,
) -> None:
    """Draw the images as the network sees them: a picture with a legend, and a page that shows each image."""
    with _heavy_imports():
        from sightline.run.embed import embed as run_embed

    done = run_embed(run, split, method, seed, limit)
    _echo({"embedding": str(done.table), "picture": str(done.picture), "page": str(done.page), "text": done.text()}, as_json)


@app.command(rich_help_panel=_GOOD)
def explain(
    run: Run,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    images: Annotated[int, typer.Option("--images", metavar="N", help="How many, mistakes first.")] = 24,
    as_json: Json = False,
) -> None:
    """Show where the network looked: heat maps beside the pictures, of mistakes and of right answers."""
    with _heavy_imports():
        from sightline.run.explain import explain as run_explain

    done = run_explain(run, split, images)
    _echo({"images": done.rows, "sheet": str(done.sheet), "text": done.text()}, as_json)


@app.command(rich_help_panel=_ROAD)
def predict(
    run: Trained,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, patterns; - reads a list from stdin.")],
    top: Annotated[int, typer.Option("--top", metavar="K", help="Classes to name for each image.")] = 5,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write .csv, .json or .parquet.")] = None,
    plot: Annotated[str | None, typer.Option("--plot", metavar="DIR", help="Draw each picture beside its bars.")] = None,
    template: Annotated[str | None, typer.Option("--template", metavar="FILE.csv", help="Fill this submission file.")] = None,
    tta: Annotated[int, typer.Option("--tta", metavar="N", help="Test-time augmentation: the mean of N views, up to 10.")] = 1,
    as_json: Json = False,
) -> None:
    """Say what is in images, with calibrated probabilities. Exit status 2 where an image could not be read."""
    with _heavy_imports():
        from sightline.run.predict import check_places, show_predictions
        from sightline.run.predict import predict as run_predict

    check_places(run, out, plot, template)
    given = [line for path in paths for line in (told(_stdin_lines() if is_main() else []) if path == "-" else [path])]
    report = run_predict(run, given, top, tta)
    if is_main():
        show_predictions(report, out, plot, template, as_json)
    if report.answers.unreadable:
        _say(f"{len(report.answers.unreadable)} of {len(report.answers.paths)} images could not be read; their rows say why.")
        raise typer.Exit(2)


@app.command(rich_help_panel=_MORE)
def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern such as resnet*.")] = "*",
    as_json: Json = False,
) -> None:
    """List the networks, with parameters and input size."""
    with _heavy_imports():
        from sightline.run.listing import models_table, networks

    found = networks(pattern)
    _echo({"models": found, "text": models_table(found)}, as_json)


@app.command(rich_help_panel=_MORE)
def settings(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Part of a name, such as augment.")] = "",
    as_json: Json = False,
) -> None:
    """List the settings, their defaults and what they are."""
    with _heavy_imports():
        from sightline.run.listing import list_settings, settings_table

    found = list_settings(pattern)
    _echo({"settings": found, "text": settings_table(found)}, as_json)


@app.command(rich_help_panel=_MORE)
def doctor(as_json: Json = False) -> None:
    """What this machine has, and what sightline will do with it."""
    with _heavy_imports():
        from sightline.run.doctor import diagnose, diagnosis_table

    found = diagnose()
    _echo({**found, "text": diagnosis_table(found)}, as_json)


# ---- parsing and echoing ---------------------------------------------------------------------------------------------


def _trained(result: Any) -> dict[str, Any]:
    from sightline.evaluation.text import summary
    from sightline.run.repeats import seeds_text

    root = result.run.root
    judged = next(part for part in ("test", "folds", "val") if part in result.metrics)
    lines = [f"{part}: {summary(result.metrics[part])}" for part in ("test", "folds") if part in result.metrics]
    if "folds" in result.metrics:
        lines.append("folds: each image judged by a network that has not seen it; RUN/classifier was trained like these, on more images.")
    if judged == "val":
        lines = [f"val: {summary(result.metrics['val'])}"]
        lines.append("val chose the epoch and the temperature, so these figures flatter; no test part judged the classifier.")
    if "seeds" in result.metrics:
        lines.append(seeds_text(result.metrics["seeds"]))
    page = root / "report.html"
    lines += ["", f"Run         {root}", f"Report      {page if page.exists() else root / 'evaluation' / judged / 'report.txt'}"]
    lines += [f"Pictures    {root / 'curves.png'}  {root / 'evaluation' / judged / 'confusion.png'}"]
    lines += [f"Try it      sightline predict {quoted(root)} IMAGE..."]
    return {"run": str(root), "metrics": result.metrics, "notes": list(result.notes), "text": "\n".join(lines)}


def _echo(result: dict[str, Any], as_json: bool) -> None:
    """The result on standard output: its `text`, or all the rest as JSON; of torchrun's processes the main one speaks."""
    if not is_main():
        return
    text = result.pop("text", "")
    typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False) if as_json else text)


def _say(text: str) -> None:
    if is_main():
        typer.echo(text, err=True)


def _refuse(wrong: bool, sentence: str) -> None:
    if wrong:
        raise SightlineError(sentence)


def _stdin_lines() -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin if line.strip()]


def _leave(status: int) -> NoReturn:
    """Ends this process; one of several at once, as threads that still talk to the others would abort it on its way out."""
    if world() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _ended(number: int, frame: object) -> NoReturn:
    """SIGTERM, where training does not hear it: what was begun is put away, as after Ctrl-C."""
    _say("sightline: ended by SIGTERM.")
    raise SystemExit(128 + number)


def main() -> None:
    """The `sightline` command; errors that the user can mend are sentences, not tracebacks."""
    if world() == 1:  # torchrun ends its processes at once
        signal.signal(signal.SIGTERM, _ended)
    try:
        with together():  # an error of several processes is told once
            app()
    except Elsewhere as error:
        _leave(error.exit_status)
    except SightlineError as error:
        typer.echo(f"sightline: {error}", err=True)
        _leave(error.exit_status)
    except KeyboardInterrupt:
        _say("sightline: interrupted.")
        sys.exit(130)
    except SystemExit as end:
        if end.code == 130:  # typer turns Ctrl-C into it and says nothing
            _say("sightline: interrupted before anything was saved; run the same command again.")
        _leave(end.code if isinstance(end.code, int) else 1 if end.code else 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # of standard output; files have errors of their own
            raise
        _say("sightline: standard output cannot be written: its disk is full.")
        sys.exit(2)
