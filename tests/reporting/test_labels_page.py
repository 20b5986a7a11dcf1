"""labels.html: what is in it, and what a person does with it in a browser."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.reporting.labels_page import KEYS, Suspect, false_alarms, labels_page
from sightline.reporting.pictures import make_pictures

CLASSES = ('<b>bad</b>"', "green", "red, or not", "yellow")
PATHS = ("a/<i>1</i>.png", 'a/"2",x.png', "b/3.png", "b/4.png")


def pixels(path: str) -> np.ndarray:
    return np.random.default_rng(len(path)).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def written(suspects: list[Suspect], key: str = "key") -> str:
    samples = {number: [f"sample-{number}-{i}.png" for i in range(3)] for number in range(3)}
    pictures = make_pictures([one.path for one in suspects] + [path for chosen in samples.values() for path in chosen], pixels)
    return labels_page(
        "</title><script>alert(1)</script>", key, CLASSES, suspects, samples, pictures, false_alarms(0.8), ["A note & more."]
    )


def suspects(splits: tuple[str, ...] = ("train", "val", "train", "test")) -> list[Suspect]:
    top = ((1, 0.7), (0, 0.2), (2, 0.06), (3, 0.04))
    return [Suspect(path, split, 0, 1, 0.9 - i / 10, top) for i, (path, split) in enumerate(zip(PATHS, splits, strict=True))]


def test_names_of_strangers_are_no_markup() -> None:
    html = written(suspects())
    assert "<b>bad" not in html
    assert "<i>1" not in html
    assert "<script>alert" not in html


def test_the_data_is_whole() -> None:
    found = re.search(r'id="page-data">(.*?)</script>', written(suspects()), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])["labels"]
    assert data["classes"] == list(CLASSES)
    assert [one["path"] for one in data["suspects"]] == list(PATHS)
    assert data["suspects"][3]["split"] == "test"
    assert data["suspects"][0]["top"][0] == [1, 0.7]


def test_half_being_false_alarms_and_the_way_on_are_told() -> None:
    html = written(suspects())
    assert html.count("false alarms") == 1
    assert "About half of such flags are false alarms" in html
    assert "data.corrections=corrections.csv" in html
    assert "A note &amp; more." in html


def test_every_key_of_the_page_is_explained_and_heard() -> None:
    script = Path(labels_page.__code__.co_filename).with_suffix(".js").read_text()
    heard = re.search(r"const heard = \{(.*?)\};", script, re.DOTALL)
    assert heard is not None
    letters = set(re.findall(r"^    (\w):", heard[1], re.MULTILINE))
    assert letters == {key[0] for key, _ in KEYS if key[0].isalpha()}


def test_without_suspects_there_is_nothing_to_do() -> None:
    html = written([])
    assert "No label looks wrong" in html
    assert "labels-keep" not in html.partition("</style>")[2].partition('id="data"')[0]


# ---- in a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, where Playwright and it are there."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`open_page(html)` gives a page that has had no error when the test ends."""
    context = browser.new_context(accept_downloads=True)
    errors: list[str] = []

    def open_(html: str, name: str = "labels.html") -> Any:
        (tmp_path / name).write_text(html, encoding="utf-8")
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / name).as_uri())
        return page

    yield open_
    context.close()
    assert errors == []


def saved(page: Any) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "corrections.csv"
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


def path_of(page: Any) -> str:
    return str(page.locator("#labels-path").inner_text())


def test_keys_decide_and_the_file_says_what(open_page: Any) -> None:
    page = open_page(written(suspects()))
    assert path_of(page) == PATHS[0]
    assert page.locator("#labels-picture img").evaluate("image => image.naturalWidth") > 0
    assert page.locator("#labels-label-samples img").count() == 3
    page.keyboard.press("r")
    assert path_of(page) == PATHS[1]
    page.keyboard.press("d")
    page.keyboard.press("k")
    assert "3 of 3 decided" in page.locator("#labels-count").inner_text()
    assert saved(page) == [
        {"path": PATHS[0], "label": "green", "action": "relabel", "old_label": CLASSES[0]},
        {"path": PATHS[1], "label": CLASSES[0], "action": "drop", "old_label": CLASSES[0]},
        {"path": PATHS[2], "label": CLASSES[0], "action": "keep", "old_label": CLASSES[0]},
    ]


def test_decisions_survive_a_reload_and_so_does_undo(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.keyboard.press("k")
    page.keyboard.press("d")
    page.reload()
    assert path_of(page) == PATHS[2]
    assert "2 of 3 decided · 1 kept, 0 relabelled, 1 dropped" in page.locator("#labels-count").inner_text()
    page.keyboard.press("u")
    assert path_of(page) == PATHS[1]
    assert page.locator("#labels-decision").inner_text() == "Undecided"
    assert [row["action"] for row in saved(page)] == ["keep"]


def test_runs_do_not_share_decisions(open_page: Any) -> None:
    open_page(written(suspects(), "one")).keyboard.press("k")
    assert "0 of 3 decided" in open_page(written(suspects(), "two")).locator("#labels-count").inner_text()


def test_the_last_of_two_decisions_holds_and_undo_brings_the_first_back(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("d")
    assert [row["action"] for row in saved(page)] == ["drop"]
    page.keyboard.press("u")
    assert page.locator("#labels-decision").inner_text() == "Kept"
    assert [row["action"] for row in saved(page)] == ["keep"]


def test_another_class_by_its_key_by_name_and_by_number(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.keyboard.press("3")  # third of the probabilities
    page.keyboard.press("c")
    page.keyboard.type("YELL")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    assert [(row["action"], row["label"]) for row in saved(page)] == [("relabel", CLASSES[2]), ("relabel", "yellow"), ("relabel", "green")]


def test_choosing_the_label_that_it_has_is_to_keep_it(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.keyboard.press("2")  # its own label is the second likeliest
    assert [row["action"] for row in saved(page)] == ["keep"]


def test_moving_on_decides_nothing(open_page: Any) -> None:
    page = open_page(written(suspects()))
    for key in ("n", "ArrowRight", "n", "p"):
        page.keyboard.press(key)
    assert path_of(page) == PATHS[1]
    page.keyboard.press("s")
    assert page.locator("#labels-said").inner_text() == "Nothing is decided yet."
    page.keyboard.press("u")
    assert page.locator("#labels-said").inner_text() == "Nothing to undo."


def test_test_images_have_a_list_of_their_own_with_a_warning(open_page: Any) -> None:
    page = open_page(written(suspects()))
    assert not page.locator("#labels-warning").is_visible()
    for _ in range(4):
        page.keyboard.press("r")
    assert PATHS[3] not in [row["path"] for row in saved(page)]
    page.locator("#labels-part").select_option("test")
    assert path_of(page) == PATHS[3]
    assert "changes the judge" in page.locator("#labels-warning").inner_text()


def test_where_all_suspects_are_test_images_they_are_shown_with_the_warning(open_page: Any) -> None:
    page = open_page(written(suspects(("test",) * 4)))
    assert page.locator("#labels-warning").is_visible()
    assert "1 of 4" in page.locator("#labels-place").inner_text()


def test_the_mouse_can_do_it_all(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.get_by_role("button", name="Relabel").first.click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Other class").click()
    page.locator("#labels-matches button", has_text="yellow").click()
    page.get_by_role("button", name="Undo").click()
    assert [(row["action"], row["label"]) for row in saved(page)] == [("relabel", "green"), ("keep", CLASSES[0])]


def test_a_phone_needs_no_sideways_scrolling(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#labels-keep").is_visible()


def test_on_a_phone_the_buttons_are_one_row_and_leave_the_picture_free(open_page: Any) -> None:
    page = open_page(written(suspects()))
    page.set_viewport_size({"width": 390, "height": 780})
    boxes = [button.bounding_box() for button in page.locator(".labels-buttons button").all()]
    assert len({box["y"] for box in boxes}) == 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert page.locator(".labels-buttons").bounding_box()["height"] < 0.1 * 780
    cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.id)"
    assert page.locator(".labels-buttons button").evaluate_all(cut) == []
    assert page.locator("#labels-relabel").get_attribute("aria-label") == "Relabel to green"


def test_a_command_in_a_note_is_code() -> None:
    html = labels_page("photos", "key", CLASSES, suspects(), {}, make_pictures([], pixels), "", ["All are judged by `sightline train x`."])
    assert "All are judged by <code>sightline train x</code>." in html
    assert "The score is one minus the probability of the label" in html
