"""The figures of `metrics.json` in words: some lines for the end of a command, and a full table for `report.txt`.

    print(summary(metrics))
    Path("report.txt").write_text(classification_report(metrics), encoding="utf-8")
    print(comparison_report(compare({"A": first, "B": second})))

Shares are in percent with one decimal, 95 % intervals follow in brackets. Columns line up for any script a terminal
shows in one or two cells a character; emoji joined from several characters may be off by a cell.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from sightline.evaluation.baseline import baseline_sentence, most_frequent

NAME_WIDTH = 48  # longer names of classes are cut, in cells
_LISTED = 6  # how many names a sentence spells out
_NOTHING: dict[str, float | None] = {"value": None, "low": None, "high": None}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:z.1f}"


def _two_decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:z.2f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:z.3f}"


_FIGURES: dict[str, tuple[str, Callable[[float | None], str], str]] = {
    "accuracy": ("accuracy", _percent, " %"),
    "balanced_accuracy": ("balanced accuracy", _percent, " %"),
    "macro_precision": ("macro precision", _percent, " %"),
    "macro_recall": ("macro recall", _percent, " %"),
    "macro_f1": ("macro F1", _percent, " %"),
    "weighted_f1": ("weighted F1", _percent, " %"),
    "top5_accuracy": ("top-5 accuracy", _percent, " %"),
    "log_loss": ("log loss", _decimal, "  "),
    "log_loss_uncalibrated": ("  uncalibrated", _decimal, "  "),
    "brier": ("Brier score", _decimal, "  "),
    "brier_uncalibrated": ("  uncalibrated", _decimal, "  "),
    "ece": ("calibration error", _percent, " %"),
    "ece_uncalibrated": ("  uncalibrated", _percent, " %"),
    "ece_equal_mass": ("  bins of equal mass", _percent, " %"),
    "ece_equal_mass_uncalibrated": ("  these, uncalibrated", _percent, " %"),
}
_HEADLINE = {"accuracy": "accuracy", "macro_f1": "macro F1", "ece": "calibration error"}


def summary(metrics: dict[str, Any]) -> str:
    """A few lines: the main figures, beside them those without twins, and what was not evaluated.

    Args:
        metrics: what `sightline.evaluation.metrics.evaluate` returned, or `metrics.json` as read.
    """
    lines = [_headline(metrics, f"{_count(metrics['n'], 'image')}, {_count(metrics['evaluated_classes'], 'class')}")]
    leak_free = metrics.get("leak_free")
    if leak_free:
        lines.append(_headline(leak_free, f"{_without(metrics)}, {_count(leak_free['n'], 'image')}"))
    if told := baseline_sentence(metrics):
        lines.append(told)
    lines += _views(metrics)
    if "prediction_sets" in metrics:
        lines.append(_sets_sentence(metrics["prediction_sets"]))
    if metrics.get("calibration_note"):
        lines.append(metrics["calibration_note"])
    if metrics["not_evaluated"]:
        lines.append(f"not evaluated, for want of images: {_listing(metrics['not_evaluated'])}")
    return "\n".join(lines)


def classification_report(metrics: dict[str, Any]) -> str:
    """Every class in a row, in the order of the classes, then every figure of the whole; ends with a newline.

    Args:
        metrics: what `sightline.evaluation.metrics.evaluate` returned, or `metrics.json` as read.
    """
    parts = [f"{_count(metrics['n'], 'image')}, {_count(metrics['evaluated_classes'], 'class')} evaluated."]
    parts.append("Precision, recall and F1 in percent; a range in brackets holds the true value 95 times in 100.")
    parts += _views(metrics) + _found(metrics)
    parts += ["", *_class_table(metrics["per_class"], metrics.get("prediction_sets"))]
    if metrics["not_evaluated"]:
        parts += ["", f"Not evaluated, as they have no images here: {', '.join(metrics['not_evaluated'])}."]
        parts.append("Means over classes are over the others.")
    parts += ["", *_figure_table(metrics)]
    if metrics.get("calibration_note"):
        parts += ["", metrics["calibration_note"]]
    parts += _sets_part(metrics) + _novelty_part(metrics)
    return "\n".join(parts) + "\n"


def comparison_report(found: dict[str, Any]) -> str:
    """What is better, then the figures and the differences, then the classes that differ; ends with a newline.

    Args:
        found: what `sightline.evaluation.compare.compare` returned.
    """
    several = len(found["pairs"]) > 1
    parts = [f"{_count(found['n'], 'image')}, {_count(len(found['classes']), 'class')}.", ""]
    parts += [pair["sentence"] for pair in found["pairs"]] + ([found["best"]] if several else [])
    table = [["", "accuracy", "balanced accuracy", "macro F1", "log loss"]]
    table += [[row["name"], *(_with_ends(row[name], form) for name, form in _COMPARED.items())] for row in found["runs"]]
    for pair in found["pairs"]:
        figures = (_with_ends(pair["differences"][name], _signed(form)) for name, form in _COMPARED.items())
        table.append([f"{pair['second']} - {pair['first']}" if several else "difference", *figures])
    together = ", for all pairs together" if several else ""
    parts += ["", *aligned(table, "<<<<<"), "", f"Shares in percent; a range in brackets holds the true value 95 times in 100{together}."]
    for pair in found["pairs"]:
        parts += ["", *_pair_part(pair)]
    return "\n".join(parts) + "\n"


_COMPARED = {"accuracy": _percent, "balanced_accuracy": _percent, "macro_f1": _percent, "log_loss": _decimal}


def _signed(form: Callable[[float | None], str]) -> Callable[[float | None], str]:
    """With a plus, where what is shown is above zero."""
    return lambda value: ("+" if form(value).strip("-0.") and value is not None and value > 0 else "") + form(value)


def _pair_part(pair: dict[str, Any]) -> list[str]:
    """McNemar's test of a pair, and the classes that differ beyond chance."""
    first, second = pair["first"], pair["second"]
    lines = [
        f"Right only with {second}: {_count(pair['only_second'], 'image')}; only with {first}: {_count(pair['only_first'], 'image')}; "
        f"McNemar's test: p {_chance(pair['p'])}."
    ]
    if pair["only_first"] + pair["only_second"] == 0:
        lines = ["Both are right on the same images; a range says how far apart they may still be on other images like these."]
    differing = [row for row in pair["per_class"] if row["p_holm"] is not None and row["p_holm"] < 0.05]
    judged = sum(row["support"] > 0 for row in pair["per_class"])
    if not differing:
        return [*lines, f"No class differs beyond chance, allowing for {judged} of them being looked at (Holm)."]
    table = [["class", "images", f"recall, {second} - {first}", "p (Holm)"]]
    for row in sorted(differing, key=lambda row: row["p_holm"]):
        cells = [
            _cut(row["name"]),
            f"{row['support']:,}",
            _with_ends(row["recall"], _signed(_percent)),
            _chance(row["p_holm"]).removeprefix("= "),
        ]
        table.append(cells)
    return [*lines, f"Classes that differ beyond chance, allowing for {judged} of them being looked at:", *aligned(table, "<><<")]


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _views(metrics: dict[str, Any]) -> list[str]:
    """A sentence where the figures are those of test-time augmentation."""
    views = metrics.get("views", 1)
    return [] if views == 1 else [f"Test-time augmentation: each answer is the mean of {views} views of its image."]


def _found(metrics: dict[str, Any]) -> list[str]:
    """What became of each file of another folder, in numbers that add up."""
    found = metrics.get("found")
    if not found:
        return []
    left = found["left_out"]
    shown = list(left.items())[:_LISTED]
    rest = sum(left.values()) - sum(n for _, n in shown)
    lines = [f"{_count(found['images'], 'image')} found: {metrics['n']:,} judged, {sum(left.values()):,} left out."]
    lines += [f"  left out: {n:,} {reason}" for reason, n in shown]
    lines += [f"  left out: {rest:,} for other reasons; metrics.json has each"] if rest else []
    passed = ", ".join(f"{n:,} {reason}" for reason, n in found["passed_over"].items())
    return ["", *lines, *([f"Passed over: {passed}."] if passed else []), *found["notes"]]


def _class_table(rows: Sequence[dict[str, Any]], sets: dict[str, Any] | None) -> list[str]:
    table = [["class", "images", "precision", "recall", "F1", *(["in its set"] if sets else [])]]
    covered = sets["per_class"] if sets else [None] * len(rows)
    for row, coverage in zip(rows, covered, strict=True):
        figures = [_with_ends(row[name], _percent) for name in ("precision", "recall", "f1")]
        figures += [_with_ends(coverage or _NOTHING, _percent)] if sets else []
        table.append([_cut(row["name"]), f"{row['support']:,}", *figures])
    head, *body = aligned(table, "<><<<<")
    return [head, "-" * len(head), *body]


def _figure_table(metrics: dict[str, Any]) -> list[str]:
    leak_free = metrics.get("leak_free")
    parts = [part for part in (metrics, leak_free) if part and part["n"]]
    table = [["", "all images", f"the {leak_free['n']:,} {_without(metrics)}"][: 1 + len(parts)]] if leak_free else []
    for key, (name, form, unit) in _FIGURES.items():
        if key in metrics:
            table.append([name, *(_with_ends(part[key], form, unit) for part in parts)])
        if key == "accuracy":
            most, share = most_frequent(metrics)
            table.append([f"  to say always {_cut(most)}", f"{_percent(share):>5} %", *[""] * (len(parts) - 1)])
    note = ["", f"{_without(metrics).capitalize()}: {leak_free['note']}."] if leak_free and not leak_free["n"] else []
    missing = metrics.get("twins", {}).get("note")
    return aligned(table, "<<<") + note + (["", missing] if missing else [])


def _without(metrics: dict[str, Any]) -> str:
    """What the images beside all of them lack; a search for equal pictures says nothing of other twins."""
    equal = metrics.get("twins", {}).get("looked_for") == "equal"
    return "without an equal picture in train" if equal else "without twins in train"


def _sets_sentence(sets: dict[str, Any]) -> str:
    """Coverage and size of the prediction sets, and what is left when the unsure answers are left out."""
    coverage, size = _with_ends(sets["coverage"], _percent, " %").strip(), f"{sets['mean_size']['value']:.2f}"
    said = f"prediction sets for {100 * sets['level']:.0f} %: they hold the true class in {coverage}, {size} classes on average"
    if sets["single_accuracy"] is None:
        return f"{said}; none is of one class"
    right = _with_ends(sets["single_accuracy"], _percent, " %").strip()
    return f"{said}; {_percent(sets['single']['value'])} % are of one class, right in {right}"


def _sets_part(metrics: dict[str, Any]) -> list[str]:
    sets = metrics.get("prediction_sets")
    if not sets:
        return []
    table = [["mean size of a set", _with_ends(sets["mean_size"], _two_decimals)]]
    table += [["sets that hold the true class", _with_ends(sets["coverage"], _percent, " %")]]
    table += [["sets of one class", _with_ends(sets["single"], _percent, " %")]]
    table += [["  these are right", _with_ends(sets["single_accuracy"], _percent, " %")]] if sets["single_accuracy"] else []
    note = [f"{sets['note'][0].upper()}{sets['note'][1:]}."] if sets["note"] else []
    return ["", f"Prediction sets that are to hold the true class {100 * sets['level']:.0f} times in 100:", *aligned(table, "<<"), *note]


def _novelty_part(metrics: dict[str, Any]) -> list[str]:
    novelty = metrics.get("novelty")
    if not novelty:
        return []
    share = _with_ends(novelty["flagged"], _percent, " %").strip()
    aim = f"the threshold is set for {100 * (1 - novelty['share']):.0f} % of ordinary images"
    return ["", f"Images said to be unlike the training images: {share}; {aim}."]


def _headline(metrics: dict[str, Any], about: str) -> str:
    if not metrics["n"]:
        return f"{about}: {metrics['note']}"
    figures = (f"{name} {_with_ends(metrics[key], _percent, ' %').strip()}" for key, name in _HEADLINE.items())
    return f"{about}: {', '.join(figures)}"


def _with_ends(figure: dict[str, float | None], form: Callable[[float | None], str], unit: str = "") -> str:
    value, low, high = (form(figure[key]) for key in ("value", "low", "high"))
    return f"{value:>5}{unit}" + (f" ({low} to {high})" if figure["low"] is not None else "")


def _count(n: int, noun: str) -> str:
    ending = "" if n == 1 else "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{ending}"


def _listing(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def aligned(table: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Lines of a table with the cells padded to the widest of their column, to the left (<) or to the right (>)."""
    widths = [max(_width(cell) for cell in column) for column in zip(*table, strict=True)]
    return ["  ".join(map(_padded, row, widths, sides)).rstrip() for row in table]


def _padded(cell: str, width: int, side: str) -> str:
    space = " " * (width - _width(cell))
    return cell + space if side == "<" else space + cell


def _width(text: str) -> int:
    """How many cells of a terminal: wide East Asian characters take two, marks and joiners none (UAX 11)."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(name: str) -> str:
    """The name on one line, shortened where it is wider than NAME_WIDTH cells."""
    name = " ".join(name.split())
    if _width(name) <= NAME_WIDTH:
        return name
    while _width(name) > NAME_WIDTH - 1:
        name = name[:-1]
    return name + "…"
