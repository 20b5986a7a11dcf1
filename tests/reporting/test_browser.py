"""A browser opens the report: it asks the network for nothing, and a cell of the matrix shows its images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.reporting.facts import MOST_RIGHT, RunFacts
from sightline.reporting.pictures import GONE, MissingPicture, make_pictures
from sightline.reporting.run_page import run_page, wanted_pictures

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fly", "gnu")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def _gone_path(facts: RunFacts) -> str:
    """The image that the page shows first, whose file is not there any more."""
    return wanted_pictures(facts)[0]


@pytest.fixture(scope="module")
def facts(make_facts: Callable[..., RunFacts]) -> RunFacts:
    return make_facts(CLASSES, 420, right=0.6)


@pytest.fixture(scope="module")
def report(facts: RunFacts, read_colour: Callable[[str], np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    gone = _gone_path(facts)

    def read(path: str) -> np.ndarray:
        if path == gone:
            raise MissingPicture(GONE)
        return read_colour(path)

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(run_page(facts, make_pictures(wanted_pictures(facts), read)), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """`open_page(path, width=1280, **context)` opens a file; at the end nothing may have been asked or complained of."""
    asked: list[str] = []
    complaints: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)
    assert complaints == []


def _expected(facts: RunFacts, true: int, called: int) -> set[str]:
    assert facts.judged is not None
    predictions = facts.judged.predictions
    assert predictions is not None
    assert predictions.labels is not None
    rows = np.flatnonzero((predictions.labels == true) & (predictions.predicted() == called))
    return {predictions.ids[row] for row in rows}


def _shown(page: Any) -> list[str]:
    found: list[str] = page.locator(".cell-panel .tile").evaluate_all("tiles => tiles.map(tile => tile.dataset.path)")
    return found


def _cell(page: Any, true: int, called: int) -> Any:
    return page.locator("table.matrix tbody tr").nth(true).locator("td").nth(called)


@pytest.mark.parametrize(("true", "called"), [(0, 1), (3, 4), (6, 0)])
def test_a_click_on_a_cell_shows_the_images_of_that_cell(open_page: Any, report: Path, facts: RunFacts, true: int, called: int) -> None:
    page = open_page(report)
    _cell(page, true, called).click()
    shown = _shown(page)
    assert set(shown) == _expected(facts, true, called)
    assert len(shown) == int(_cell(page, true, called).inner_text())
    title = page.locator(".cell-panel h3").inner_text()
    assert title.startswith(f"{CLASSES[true]} called {CLASSES[called]}: {len(shown)} image")


def test_a_cell_shows_the_very_pixels_of_its_images(open_page: Any, report: Path, facts: RunFacts, read_colour: Any) -> None:
    page = open_page(report)
    _cell(page, 1, 2).click()
    page.locator(".cell-panel").scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('.cell-panel img')].every(img => img.complete && img.naturalWidth)")
    colours = page.locator(".cell-panel .tile:has(img)").evaluate_all(
        """tiles => tiles.map(tile => {
            const pen = new OffscreenCanvas(1, 1).getContext('2d');
            pen.drawImage(tile.querySelector('img'), 0, 0, 1, 1);
            return [tile.dataset.path, ...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        })"""
    )
    assert len(colours) >= len(_expected(facts, 1, 2)) - 1 > 5
    for path, *colour in colours:
        np.testing.assert_allclose(colour, read_colour(path)[0, 0], atol=12, err_msg=path)


def test_a_cell_on_the_diagonal_shows_a_part_and_says_so(open_page: Any, report: Path, facts: RunFacts) -> None:
    page = open_page(report)
    _cell(page, 2, 2).click()
    everything = _expected(facts, 2, 2)
    shown = _shown(page)
    assert len(shown) == MOST_RIGHT < len(everything)
    assert set(shown) < everything
    assert page.locator(".cell-panel .note").inner_text().startswith(f"{MOST_RIGHT} of {len(everything)} shown")


def test_the_matrix_goes_by_keyboard(open_page: Any, report: Path, facts: RunFacts) -> None:
    page = open_page(report)
    page.locator("table.matrix td[tabindex='0']").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowRight")
    assert page.locator(".readout").inner_text().startswith("ant called bee")
    page.keyboard.press("Enter")
    assert set(_shown(page)) == _expected(facts, 0, 1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    focused = page.evaluate("[document.activeElement.parentElement.sectionRowIndex, document.activeElement.cellIndex - 1]")
    assert focused == [2, 5]
    assert page.locator("td[tabindex='0']").count() == 1


def test_the_page_opens_with_the_largest_confusion(open_page: Any, report: Path, facts: RunFacts) -> None:
    page = open_page(report)
    assert facts.judged is not None
    table = np.array(facts.judged.metrics["confusion"])
    wrong = table - np.diag(np.diag(table))
    true, called = np.unravel_index(wrong.argmax(), wrong.shape)
    assert set(_shown(page)) == _expected(facts, int(true), int(called))


def test_a_click_on_a_heading_sorts_the_classes_and_another_turns_them_round(open_page: Any, report: Path, facts: RunFacts) -> None:
    page = open_page(report)
    assert facts.judged is not None
    order = sorted(facts.judged.metrics["per_class"], key=lambda row: -row["recall"]["value"])
    heading = page.locator("#class-table thead button", has_text="Recall")
    recalls = "rows => rows.map(row => Number(row.cells[4].dataset.v))"
    heading.click()
    values = page.locator("#class-table tbody tr").evaluate_all(recalls)
    assert values == pytest.approx([row["recall"]["value"] for row in order], abs=1e-6)
    heading.focus()
    page.keyboard.press("Enter")
    assert page.locator("#class-table tbody tr").evaluate_all(recalls) == sorted(values)
    assert page.locator("#class-table th[aria-sort='ascending']").inner_text().startswith("Recall")


def test_a_picture_that_is_gone_says_so(open_page: Any, report: Path, facts: RunFacts) -> None:
    page = open_page(report)
    tiles = page.locator(f".tile[data-path='{_gone_path(facts)}']")
    assert tiles.first.locator(".frame").text_content() == GONE
    assert tiles.first.locator("img").count() == 0


def test_a_link_to_a_class_opens_it(open_page: Any, report: Path) -> None:
    page = open_page(report)
    link = page.locator("#class-table tbody a").first
    target = link.get_attribute("href")
    page.locator(target).evaluate("box => box.open = false")
    link.click()
    page.wait_for_function("target => document.querySelector(target).open", arg=target)


@pytest.mark.parametrize("width", [375, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(open_page: Any, report: Path, width: int, scheme: str) -> None:
    page = open_page(report, width=width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


BROKEN_WORDS = """() => {
    const found = [];
    const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode;
        if (text.parentElement.closest('style, pre, code, .path, .readout, .matrix') || !text.parentElement.checkVisibility()) continue;
        for (const word of text.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
            const range = document.createRange();
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            const tops = new Set([...range.getClientRects()].filter((box) => box.width > 0).map((box) => Math.round(box.top)));
            if (tops.size > 1) found.push(word[0]);
        }
    }
    return found;
}"""
"""Words of a page, and parts of names between underscores, that go on in another line."""

OPENED = "document.querySelectorAll('details').forEach((box) => (box.open = true))"


def test_no_word_is_broken_and_no_table_cut_off_on_a_phone(open_page: Any, make_facts: Callable[..., RunFacts], tmp_path: Path) -> None:
    names = ("charles_montgomery_burns", "principal_skinner", "waylon_smithers_junior")
    facts = make_facts(names, 90, right=0.6)
    assert facts.judged is not None
    held = {"value": 0.9, "low": 0.8, "high": 0.95}
    sets = {"level": 0.9, "coverage": held, "mean_size": held, "per_class": [held] * 3}
    judged = replace(facts.judged, metrics={**facts.judged.metrics, "prediction_sets": sets})
    budget = {"time": "2026-11-28T22:50:03+0000", "event": "budget", "values": {"train.epochs": 8}}
    facts = replace(facts, judged=judged, others=[replace(judged, name="val")], events=[*facts.events, budget])
    path = tmp_path / "phone.html"
    path.write_text(run_page(facts, make_pictures([], lambda name: np.zeros((9, 9, 3), dtype=np.uint8))), encoding="utf-8")
    page = open_page(path, width=390)
    page.evaluate(OPENED)
    assert page.evaluate(BROKEN_WORDS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "all => all.filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.getAttribute('aria-label'))"
    assert page.locator(".scroll:has(.stacked)").evaluate_all(wide) == []
    page.wait_for_timeout(100)
    assert page.locator(".scroll").evaluate_all(wide) == page.locator(".scroll.over").evaluate_all(wide)


def test_everything_that_can_be_used_has_a_name_and_a_visible_focus(open_page: Any, report: Path) -> None:
    page = open_page(report)
    named = "one => one.textContent.trim() || one.getAttribute('aria-label') || (one.labels && one.labels.length)"
    nameless = page.locator("a, button, input, summary").evaluate_all(
        f"all => all.filter(one => !({named})(one)).map(one => one.outerHTML)"
    )
    assert nameless == []
    for _ in range(25):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML.slice(0, 80)")


def test_it_prints_on_paper_with_its_pictures(open_page: Any, report: Path, tmp_path: Path) -> None:
    page = open_page(report, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav.contents").is_visible()
    assert len(page.pdf(path=tmp_path / "report.pdf")) > 20_000


def test_hostile_names_do_nothing(
    open_page: Any, make_facts: Callable[..., RunFacts], nasty_names: tuple[str, ...], tmp_path: Path
) -> None:
    facts = make_facts(nasty_names, 120, right=0.5)
    path = tmp_path / "nasty.html"
    pictures = make_pictures(wanted_pictures(facts), lambda name: np.zeros((9, 9, 3), dtype=np.uint8))
    path.write_text(run_page(facts, pictures), encoding="utf-8")
    page = open_page(path, width=375)
    page.on("dialog", lambda dialog: pytest.fail(f"a name ran as a script: {dialog.message}"))
    for cell in page.locator("table.matrix td[data-n]").all()[:8]:
        cell.click()
    assert page.locator("table.matrix thead th").nth(1).inner_text().strip() == nasty_names[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("script").count() == 2


@pytest.mark.parametrize("width", [390, 1440])
def test_few_classes_have_no_buttons_to_resize_cells(
    open_page: Any, make_facts: Callable[..., RunFacts], tmp_path: Path, width: int
) -> None:
    path = tmp_path / "few.html"
    path.write_text(
        run_page(make_facts(CLASSES[:5], 60), make_pictures([], lambda name: np.zeros((9, 9, 3), dtype=np.uint8))), encoding="utf-8"
    )
    page = open_page(path, width=width)
    assert page.locator("[data-zoom]:visible").count() == 0


def test_hundred_classes_fit_and_can_be_enlarged(open_page: Any, make_facts: Callable[..., RunFacts], tmp_path: Path) -> None:
    facts = make_facts(tuple(f"class {k:03d}" for k in range(102)), 1020, right=0.8)
    path = tmp_path / "many.html"
    path.write_text(run_page(facts, make_pictures([], lambda name: np.zeros((9, 9, 3), dtype=np.uint8))), encoding="utf-8")
    page = open_page(path, width=1440)
    box, matrix = page.locator(".matrix-box"), page.locator("table.matrix")
    assert matrix.bounding_box()["width"] <= box.bounding_box()["width"] + 2
    before = _cell(page, 0, 0).bounding_box()["width"]
    assert page.locator("[data-zoom]:visible").count() == 3
    page.locator("[data-zoom='in']").click()
    page.locator("[data-zoom='in']").click()
    assert _cell(page, 0, 0).bounding_box()["width"] > before
    page.locator("#find-class").fill("class 05")
    assert page.locator("#class-table tbody tr:visible").count() == 10
