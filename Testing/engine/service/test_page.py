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

from .conftest import Served, another_model

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


def test_the_next_file_is_for_the_same_model(
    browser: Any, served: Served, volume: Path, tiny_bundle: Path
) -> None:
    with another_model(tiny_bundle, "another"):
        page, wrong = page_of(browser, served)
        page.wait_for_selector("#model option", state="attached")
        assert page.input_value("#model") == "another"
        page.select_option("#model", "tiny")
        page.check("#tta")
        for number in (1, 2):
            page.set_input_files("#channels input", os.fspath(volume))
            page.click("#go")
            page.wait_for_selector("#go:enabled")
            page.wait_for_selector(f"#jobs li:nth-child({number})")
            assert page.input_value("#channels input") == ""
        assert page.input_value("#model") == "tiny"
        assert page.is_checked("#tta")
        assert "Tiny model" in page.inner_text("#about")
        jobs = served.ask("GET", "/jobs")[1]["jobs"]
        assert [job["model"] for job in jobs] == ["tiny", "tiny"]
        for job in jobs:
            served.ask("DELETE", f"/jobs/{job['id']}")
    assert wrong == []


def test_every_warning_is_shown_with_the_files_own_name(
    browser: Any, served: Served, volume: Path
) -> None:
    page, _ = page_of(browser, served)
    page.wait_for_selector("#model option", state="attached")
    page.set_input_files("#channels input", os.fspath(volume))
    page.click("#go")
    page.wait_for_selector("#jobs li[data-state=done]", timeout=120_000)
    id = page.get_attribute("#jobs li", "data-id")
    warnings = [
        ("nothing-found", "None of the model's structures was found in case."),
        ("not-finite", "case_0000.nii.gz holds 3 NaN or infinite voxels; they were replaced."),
        ("doubtful-result", "Look twice."),
    ]
    shown = page.evaluate(
        """([id, warnings]) => {
            show({ id, slices: 0, result: { labels: [] }, warnings });
            return [...document.querySelectorAll("#warnings p")].map((p) => p.textContent);
        }""",
        [id, [{"code": code, "message": message} for code, message in warnings]],
    )
    assert shown == [
        "Look twice.",
        "None of the model's structures was found in head.nii.gz.",
        "head.nii.gz holds 3 NaN or infinite voxels; they were replaced.",
    ]
    failed = {"id": id, "state": "failed", "error": {"message": warnings[1][1], "help": ""}}
    assert page.evaluate("state", failed).startswith("head.nii.gz holds")
    served.ask("DELETE", f"/jobs/{id}")


def test_the_page_comes_back_after_a_proxy_has_failed(browser: Any, served: Served) -> None:
    page, _ = page_of(browser, served)
    page.wait_for_selector("#who:text-is('alice')", state="attached")
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url.rpartition("/")[2])
        before = asked.count(asked[-1])
        if before == 1 or (asked[-1] == "events" and before == 2):
            route.fulfill(status=502, body="<html>Bad gateway</html>")
        else:
            route.continue_()

    page.route("**/models", answer)
    page.route("**/events", answer)
    page.reload()
    page.wait_for_selector("#lost:text-is('No connection to the server; trying again in 1 s.')")
    page.wait_for_selector("#lost:text-is('No connection to the server; trying again in 2 s.')")
    page.wait_for_selector("#who:text-is('alice')", state="attached")
    assert page.is_hidden("#lost")
    assert asked == ["models", "models", "events", "events", "events"]
    page.route("**/jobs", lambda route: route.fulfill(status=502, body="<html>"))
    said = page.evaluate("ask('POST', 'jobs', {}).catch((error) => error.message)")
    assert said == "The server answered 502."


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
