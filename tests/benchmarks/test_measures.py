"""Each measure runs on a tiny folder, gives a row a competitor, and names those that are not installed."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks import accuracy, pipeline
from benchmarks.__main__ import MEASURES, arguments
from benchmarks.__main__ import __doc__ as told
from benchmarks.folders import split_folders
from benchmarks.kernels import STEPS, by_kernel
from benchmarks.processes import ROOT, Failed, at, run
from benchmarks.rounds import in_turn, spread
from benchmarks.table import as_markdown

MACHINE = {"date": "2026-01-01", "processor": "P", "cores": 2, "memory_gb": 8, "gpu": None, "load_before": 0.1}


def found(**more: Any) -> dict[str, Any]:
    return {"measure": "m", "command": "python -m benchmarks m", "machine": MACHINE, "versions": {"python": "3"}, **more}


def runs(*curves: list[tuple[float, float]], epochs: int = 2) -> list[dict[str, Any]]:
    """As many runs of the plain loop, with [seconds, accuracy] of each epoch."""
    return [{"epochs": epochs, "imported": 1.0, "ready": 2.0, "ended": 99.0, "curve": curve} for curve in curves]


# ---- what they are made of -------------------------------------------------------------------------------------------


def test_every_measure_is_in_the_help() -> None:
    assert told is not None
    for name in MEASURES:
        assert f"\n    {name} " in told


def test_things_are_measured_in_turn_and_a_missing_one_is_named_once() -> None:
    heard: list[str] = []

    def missing() -> str:
        heard.append("missing")
        raise ModuleNotFoundError("No module named 'kornia'", name="kornia")

    tasks: dict[str, Callable[[], Any]] = {name: lambda name=name: heard.append(name) for name in ("a", "b")}
    got, sentences = in_turn({**tasks, "Kornia": missing}, 2)
    assert heard == ["a", "b", "missing", "a", "b"]
    assert [len(one) for one in got.values()] == [2, 2]
    assert len(sentences) == 1
    assert "kornia is not installed" in sentences[0]


def test_a_spread_is_the_median_between_the_ends() -> None:
    assert spread([3.0, 1.0, 1234.4]) == {"median": 3.0, "min": 1.0, "max": 1234, "n": 3}


def test_a_table_has_a_column_for_each_fact_of_any_row_and_says_what_is_missing() -> None:
    rows = [{"tool": "a|b", "s": {"median": 2, "min": 1, "max": 3, "n": 3}}, {"tool": "c", "more": {}}]
    lines = as_markdown(found(table=rows, missing=["Kornia: not there"])).splitlines()
    assert lines[0] == "## 2026-01-01, m"
    assert lines[5:9] == ["| tool | s | more |", "| --- | --- | --- |", "| a\\|b | 2 (1 to 3) | – |", "| c | – | none |"]
    assert "- Kornia: not there" in lines


def test_the_split_of_a_folder_is_links_to_each_image_once(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder("photos", {"red": 20, "blue": 20})
    place = split_folders(folder, tmp_path / "split", 16)
    links = [path for path in place.rglob("*") if path.is_symlink()]
    assert sorted(link.resolve() for link in links) == sorted(folder.rglob("*.png"))
    with (place / "split.csv").open() as file:
        rows = {(row["split"], row["label"], row["path"].replace("/", "__")) for row in csv.DictReader(file)}
    assert rows == {link.relative_to(place).parts for link in links}
    assert {part for part, _, _ in rows} == {"train", "val", "test"}


def test_a_folder_is_thinned_evenly_before_it_is_divided(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    place = split_folders(make_folder("photos", {"red": 40, "blue": 40}), tmp_path / "split", 16, most=24)
    labels = [path.parent.name for path in place.rglob("*.png")]
    assert len(labels) == 24
    assert labels.count("red") == 12


def test_lines_of_a_process_are_stamped_and_other_output_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text("print('hello')\nprint('{\"event\": \"imported\"}', flush=True)\n")
    lines = run("peer", [], 1, {"PYTHONPATH": str(tmp_path)})
    assert [line.told for line in lines] == [{"event": "imported"}, {"event": "ended"}]
    assert 0 < (at(lines, "imported") or 0) <= (at(lines, "ended") or 0)
    assert at(lines, "ready") is None


def test_a_process_that_lacks_its_library_is_told_from_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text("import a_library_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError) as error:
        run("peer", [], 1, {"PYTHONPATH": str(tmp_path)})
    assert error.value.name == "a_library_that_nobody_has"
    (tmp_path / "peer.py").write_text("raise ValueError('no such thing')\n")
    with pytest.raises(Failed, match="no such thing"):
        run("peer", [], 1, {"PYTHONPATH": str(tmp_path)})


# ---- seconds to an accuracy ------------------------------------------------------------------------------------------


def test_kernels_are_counted_by_operation_and_name_over_all_steps() -> None:
    head = "onednn_verbose,v1,primitive,exec,cpu"
    line = f"{head},convolution,brg_conv_fwd:avx10_1_512_amx,forward_training,src:bf16::blocked,,,mb64,2.5"
    reorder = f"{head},reorder,jit:uni,undef,src:bf16,,,32x3,0.5"
    info = "onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:1"
    rows = by_kernel([info, *[line, reorder, line] * STEPS, "12.5"])
    assert rows == [
        {"operation": "convolution", "kernel": "brg_conv_fwd:avx10_1_512_amx", "calls a step": 2.0, "ms a step": 5.0},
        {"operation": "reorder", "kernel": "jit:uni", "calls a step": 1.0, "ms a step": 0.5},
    ]


def test_seconds_to_an_accuracy_are_of_the_first_epoch_that_has_it() -> None:
    (one,) = runs([(10, 0.4), (20, 0.6), (30, 0.5), (40, 0.6)])
    assert accuracy._seconds_to(one, 0.6) == 20
    assert math.isinf(accuracy._seconds_to(one, 0.61))


def test_accuracy_after_some_seconds_is_the_best_so_far() -> None:
    (one,) = runs([(10, 0.4), (20, 0.6), (30, 0.5)])
    assert [accuracy._accuracy_at(one, seconds) for seconds in (9, 10, 30)] == [0, 0.4, 0.6]


def test_the_number_of_epochs_that_gets_there_soonest_counts_and_a_round_that_never_does_is_late() -> None:
    short = runs([(10, 0.7)], [(11, 0.3)], [(12, 0.3)], epochs=1)
    long = runs([(10, 0.2), (20, 0.7)], [(10, 0.2), (30, 0.7)], [(10, 0.2), (40, 0.7)])
    row = accuracy._row("plain loop, ResNet18", short + long, [70, 90], [20])
    assert row["s to 70 %"] == "30.0 (2 epochs)"
    assert row["s to 90 %"] is None
    assert row["% after 20 s"] == 30.0  # the medians are 0.3 and 0.2


# ---- the measures themselves -----------------------------------------------------------------------------------------


def test_pipeline_gives_a_row_a_way_and_sees_each_image(folder: Path) -> None:
    given = arguments().parse_args(["pipeline", str(folder), "--rounds", "1", "--size", "16", "--threads", "1", "--only", "store", "v1, 0"])
    got = pipeline.measure(given)
    assert got["images"] == 42
    assert got["missing"] == []
    assert [row["files to augmented batches"].partition(", ")[2] for row in got["table"]] == [
        "with the store",
        "without the store",
        "torchvision v1, 0 workers",
    ]


def benchmark(tmp_path: Path, *words: str) -> dict[str, Any]:
    """The JSON of a measure that runs as a user runs it."""
    kept = tmp_path / "kept.json"
    command = [sys.executable, "-m", "benchmarks", *words, "--rounds", "1", "--threads", "1", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONDEVMODE": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    got: dict[str, Any] = json.loads(kept.read_text())
    assert str(tmp_path) not in got["command"]
    assert as_markdown(got).startswith("## ")
    return got


_PEERS = [("pipeline", 10), ("build", 5), ("predict", 5), ("audit", 4), ("memory", 2)]


@pytest.mark.parametrize(
    ("name", "most"),
    [("epoch", 2), *(pytest.param(*one, marks=pytest.mark.slow) for one in _PEERS)],  # epoch trains, and not by way of `train`
)
def test_a_measure_gives_a_row_a_competitor_or_names_it(name: str, most: int, folder: Path, tmp_path: Path) -> None:
    got = benchmark(tmp_path, name, str(folder), "--size", "16", "--model", "sightline_tiny")
    assert len(got["table"]) + len(got.get("missing", [])) == most
    assert got["table"]


@pytest.mark.slow
def test_accuracy_runs_each_competitor_once_and_keeps_its_runs(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "runs.jsonl"
    words = ["accuracy", str(folder), "--size", "32", "--epochs", "1", "--only", "sightline", "ResNet10", "--out", str(kept)]
    rows = {row["tool"]: row for row in benchmark(tmp_path, *words)["table"]}
    assert list(rows) == ["sightline", "sightline, ResNet18", "plain loop, timm ResNet10-T"]
    lines = kept.read_text().splitlines()
    again = benchmark(tmp_path, *words)
    assert kept.read_text().splitlines() == lines
    assert len(lines) == 3
    assert {row["tool"]: row for row in again["table"]} == rows


@pytest.mark.slow
def test_transfer_has_the_prefix_and_not_beside_the_plain_loop(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder("photos", {"red": 40, "blue": 40}, side=32)
    got = benchmark(
        tmp_path, "transfer", str(folder), "--size", "32", "--model", "test_resnet", "--epochs", "1", "2", "--set", "model.weights=none"
    )
    assert [(row["epochs"], row["way"].split("=")[-1]) for row in got["table"]] == [
        (1, "on"),
        (1, "off"),
        (2, "on"),
        (2, "off"),
        (1, "plain loop"),
        (2, "plain loop"),
    ]
    assert got["paired_difference_to_plain_loop"]["n"] > 0
