"""The page, driven as a person drives it: Debian's Chromium through Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

from .conftest import Served

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    f"--{option}"
    for option in (
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
    )
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


def page_of(browser: Any, served: Served, width: int = 1100) -> tuple[Any, list[str]]:
    """The page, and what went wrong on it."""
    context = browser.new_context(
        http_credentials={"username": "alice", "password": served.token()},
        viewport={"width": width, "height": 900},
        accept_downloads=True,
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.goto(served.url)
    return page, wrong


def test_without_a_token_there_is_no_page(browser: Any, served: Served) -> None:
    page = browser.new_context().new_page()
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status))
    with suppress(playwright.Error):  # some browsers count this as no page at all
        page.goto(served.url)
        page.wait_for_load_state()
    assert set(answers) == {401}
    assert "E2ENet server" not in page.title()


def test_a_volume_is_sent_looked_at_and_deleted(
    browser: Any, served: Served, volume: Path, tmp_path: Path
) -> None:
    page, wrong = page_of(browser, served)
    page.wait_for_selector("#model option", state="attached")
    page.wait_for_selector("#who:text-is('alice')", state="attached")
    assert "sphere, cube" in page.inner_text("#about")
    page.set_input_files("#channels input", os.fspath(volume))
    page.click("#go")
    page.wait_for_selector("#jobs li")
    assert "head.nii.gz" in page.inner_text("#jobs li")
    page.wait_for_selector("#jobs li[data-state=done]", timeout=120_000)
    page.click("#jobs li button >> text=Look")
    page.wait_for_selector("#picture[src]")
    assert page.evaluate("async () => (await picture.decode(), picture.naturalWidth)") > 0
    first = page.get_attribute("#picture", "src")
    page.focus("#slice")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#picture", "src") != first
    assert page.inner_text("#volumes tr:first-child td").strip() == "sphere"
    float(page.inner_text("#volumes tr:first-child td.number"))
    with page.expect_download() as loading:
        page.click("#jobs li a >> text=Labels")
    loading.value.save_as(tmp_path / "labels.nii.gz")
    assert (tmp_path / "labels.nii.gz").read_bytes()[:2] == b"\x1f\x8b"
    if folder := os.environ.get("E2ENET_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "page.png", full_page=True)
    page.click("#jobs li button >> text=Delete")
    page.wait_for_selector("#jobs li", state="detached")
    assert page.is_hidden("#result")
    assert page.is_visible("#none")
    assert served.ask("GET", "/jobs")[1]["jobs"] == []
    assert wrong == []


def test_a_file_that_is_refused_says_why(browser: Any, served: Served, tmp_path: Path) -> None:
    page, _ = page_of(browser, served)
    page.wait_for_selector("#model option", state="attached")
    (tmp_path / "notes.nii").write_text("these are notes" * 100)
    page.set_input_files("#channels input", os.fspath(tmp_path / "notes.nii"))
    page.click("#go")
    page.wait_for_selector("#refused:not([hidden])")
    assert "no NIfTI volume" in page.inner_text("#refused")
    page.wait_for_selector("#jobs li", state="detached")


def test_a_running_job_is_cancelled(browser: Any, served: Served, long_volume: Path) -> None:
    page, wrong = page_of(browser, served, width=400)
    page.wait_for_selector("#model option", state="attached")
    page.set_input_files("#channels input", os.fspath(long_volume))
    page.check("#tta")
    page.click("#go")
    page.wait_for_selector("#jobs li[data-state=running]", timeout=60_000)
    # Nothing is wider than a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.click("#jobs li button >> text=Cancel")
    page.wait_for_selector("#jobs li", state="detached")
    assert wrong == []
