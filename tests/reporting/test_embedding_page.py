"""embedding.html: what is in it, and what a person does with it in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.evaluation.embedding import Embedding
from sightline.evaluation.looks import MARKS
from sightline.reporting.embedding_page import _SHAPES, embedding_data, embedding_page
from sightline.reporting.pictures import Pictures, make_pictures

CLASSES = ("<b>ash</b>", "beech", "cedar")


def pixels(path: str) -> np.ndarray:
    return np.random.default_rng(len(path)).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def made(count: int = 12, classes: tuple[str, ...] = CLASSES) -> Embedding:
    """Images on a circle, the classes in turn; the first is taken for another, the last has no place."""
    turn = np.arange(count) * 2 * np.pi / count
    places = np.stack([np.cos(turn), np.sin(turn)], 1).astype(np.float32)
    places[-1] = np.nan
    labels = np.arange(count) % len(classes)
    predicted = labels.copy()
    predicted[0] = 1
    paths = tuple(f"{'x' * i}<i>{i}.png" for i in range(count))
    return Embedding(paths, classes, labels, predicted, np.full(count, 0.75), places, "t-SNE", ("One note & more.",), count + 5)


def written(embedding: Embedding) -> str:
    return embedding_page(embedding, make_pictures(embedding.paths, pixels), "</title><script>alert(1)</script>")


def test_names_of_strangers_are_no_markup() -> None:
    html = written(made())
    assert "<b>ash" not in html
    assert "<i>1" not in html
    assert "<script>alert" not in html
    assert "&lt;b&gt;ash&lt;/b&gt;" in html


def test_the_page_says_what_it_shows() -> None:
    html = written(made())
    assert "t-SNE of 11 images, a sample of 17" in html
    assert "1 was taken for another class" in html
    assert "One note &amp; more." in html


def test_the_data_holds_the_images_that_have_a_place() -> None:
    data = embedding_data(made(), Pictures((), {}, {}))
    assert len(data["path"]) == len(data["x"]) == 11
    assert data["label"][:4] == [0, 1, 2, 0]
    assert data["picture"][0] == "picture left out, to keep this file small"
    assert data["short"] == list(CLASSES)
    json.dumps(data, allow_nan=False)


def test_many_classes_have_numbers() -> None:
    classes = tuple(f"class {i}" for i in range(40))
    html = written(made(80, classes))
    assert embedding_data(made(80, classes), Pictures((), {}, {}))["short"][39] == "40"
    assert "<b>40</b>" in html


def test_the_legend_draws_every_mark_of_the_picture() -> None:
    assert len(_SHAPES) == len(MARKS)
    script = re.search(r"const MARKS = \[(.*?)\];", written(made()), re.DOTALL)
    assert script is not None
    assert len(re.findall(r"circle|polygon\(|cross\(", script[1])) == len(MARKS)


def test_a_class_without_images_is_not_in_the_legend() -> None:
    html = written(made(4, ("a", "b", "c", "d", "unseen")))
    assert 'data-class="4"' not in html


# ---- in a browser ----------------------------------------------------------------------------------------------------


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
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page of `made()`, which has had no error when the test ends."""
    yield from opened_page(browser, tmp_path, viewport={"width": 1200, "height": 900})


@pytest.fixture
def phone(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The same, on a phone."""
    yield from opened_page(browser, tmp_path, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)


def opened_page(browser: Any, tmp_path: Path, **options: Any) -> Iterator[Any]:
    (tmp_path / "embedding.html").write_text(written(made()), encoding="utf-8")
    context = browser.new_context(**options)
    errors: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.goto((tmp_path / "embedding.html").as_uri())
    opened.locator(".map-stage").scroll_into_view_if_needed()
    yield opened
    context.close()
    assert errors == []


def point_of(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a place of the plane is on the screen."""
    box = page.locator(".map canvas").bounding_box()
    unit = min(box["width"], box["height"]) / 2.16
    return box["x"] + box["width"] / 2 + x * unit, box["y"] + box["height"] / 2 - y * unit


def test_pointing_at_an_image_shows_it(page: Any) -> None:
    page.mouse.move(*point_of(page, 1, 0))
    card = page.locator(".map-card")
    card.wait_for(state="visible")
    assert "<b>ash</b>" in card.inner_text()
    assert "taken for beech, 75.0 % sure" in card.inner_text().replace("\N{NO-BREAK SPACE}", " ")
    assert card.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") > 0
    page.mouse.move(*point_of(page, 0, 0))
    card.wait_for(state="hidden")


def test_a_click_keeps_the_card_and_escape_closes_it(page: Any) -> None:
    page.mouse.click(*point_of(page, 1, 0))
    page.mouse.move(*point_of(page, 0, 0))
    assert page.locator(".map-card").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".map-card").is_hidden()


def test_the_legend_hides_a_class_and_shows_it_alone(page: Any) -> None:
    count = page.locator(".map-count")
    first = page.locator('[data-class="0"]')
    assert count.inner_text() == "11 of 11 images"
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert count.inner_text() == "7 of 11 images"
    page.mouse.move(*point_of(page, 1, 0))
    assert page.locator(".map-card").is_hidden()
    first.click(modifiers=["Shift"])
    assert count.inner_text() == "4 of 11 images"
    page.locator('[data-map="all"]').click()
    assert count.inner_text() == "11 of 11 images"
    page.locator('[data-map="wrong"]').click()
    assert count.inner_text() == "1 of 11 images"


def test_a_name_or_a_file_can_be_found(page: Any) -> None:
    field = page.locator(".map input")
    field.fill("BEECH")
    assert page.locator(".map-count").inner_text() == "4 of 11 images"
    assert page.locator(".map-classes li:visible").count() == 1
    field.fill("<i>10.png")
    assert page.locator(".map-count").inner_text() == "1 of 11 images"
    field.fill("")
    assert page.locator(".map-count").inner_text() == "11 of 11 images"


def test_all_of_it_goes_by_keyboard(page: Any) -> None:
    page.locator(".map canvas").focus()
    seen = []
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
        seen.append(page.locator(".map-said").inner_text().rpartition("<i>")[2])
    assert seen == ["0.png", "6.png", "5.png", "4.png"]
    assert page.locator(".map-card").is_visible()
    for key in ("+", "+", "-", "0", "Enter"):
        page.keyboard.press(key)
    page.locator('[data-class="1"]').focus()
    page.keyboard.press("o")
    assert page.locator(".map-count").inner_text() == "4 of 11 images"


def test_the_plane_is_zoomed_by_the_wheel_once_it_was_clicked(page: Any) -> None:
    place = point_of(page, 1, 0)
    page.mouse.move(*place)
    page.mouse.click(*place)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    page.keyboard.press("Escape")
    page.mouse.move(place[0] - 2, place[1])
    assert page.locator(".map-card").is_visible()  # what was under the pointer has stayed there
    page.locator('[data-map="whole"]').click()
    page.mouse.move(*place)
    assert page.locator(".map-card").is_visible()


def dragged(page: Any, *moments: tuple[tuple[float, float], ...]) -> None:
    """Fingers go down, from place to place, and up."""
    session = page.context.new_cdp_session(page)
    for kind, points in zip(("touchStart", *["touchMove"] * (len(moments) - 1), "touchEnd"), (*moments, ()), strict=True):
        where = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
    page.wait_for_timeout(100)


def test_the_plane_goes_by_touch_as_its_help_says(phone: Any) -> None:
    card = phone.locator(".map-card")
    phone.touchscreen.tap(*point_of(phone, 1, 0))
    assert card.is_visible()
    phone.touchscreen.tap(*point_of(phone, 0, 0))
    assert card.is_hidden()
    x, y = point_of(phone, 1, 0)
    dragged(phone, ((x, y), (x - 40, y)), ((x + 1, y), (x - 80, y)), ((x + 2, y), (x - 120, y)))
    assert phone.evaluate("visualViewport.scale") == 1  # the plane was zoomed, not the page
    dragged(phone, ((x, y),), ((x - 60, y),))
    assert card.is_hidden()  # one finger moved the plane
    phone.touchscreen.tap(*point_of(phone, 1, 0))
    assert card.is_hidden()  # what was there is elsewhere now
    phone.locator('[data-map="whole"]').tap()
    phone.touchscreen.tap(*point_of(phone, 1, 0))
    assert card.is_visible()


def test_no_button_lies_over_the_plane(phone: Any) -> None:
    plane = phone.locator(".map-stage").bounding_box()
    for box in (button.bounding_box() for button in phone.locator(".map button:visible").all()):
        assert box["y"] + box["height"] <= plane["y"] or box["y"] >= plane["y"] + plane["height"]
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_something_is_drawn_in_light_and_dark_and_as_pictures(page: Any) -> None:
    shades = "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    canvas = page.locator(".map canvas")
    page.wait_for_timeout(100)
    assert canvas.evaluate(shades) > 20
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(100)
    assert canvas.evaluate(shades) > 20
    before = canvas.evaluate(shades)
    page.locator('[data-map="pictures"]').click()
    page.wait_for_timeout(300)
    assert canvas.evaluate(shades) > 2 * before
