"""The page of `nexus play` in a real browser: by keyboard and by touch, alone and with others."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.opened import opened
from tests.browser.test_monitor import settled
from tests.deploy.play.taught_world import recordings, taught
from tests.deploy.play.written_worlds import fresh, played, write_world

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LENGTH = 16  # frames of a recording
PIXELS = """(selector) => {
    const canvas = document.querySelector(selector);
    return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
}"""


def write_recordings(folder: Path) -> Path:
    folder.mkdir()
    for number, (frames, actions) in enumerate(zip(*recordings(3, LENGTH, np.random.default_rng(7)), strict=True)):
        np.savez(folder / f"{number}.npz", image=frames, action=actions)
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two places to play in an untrained world that always takes the likeliest tokens."""
    home = tmp_path_factory.mktemp("play")
    world, start = write_world(home / "square", fresh()), write_recordings(home / "recordings")
    with played(world, "--start", start, "--players", "2", "--temperature", "0", home=home) as found:
        yield found


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    with opened(browser, address, "", ".action") as found:
        begun(found)
        yield found


def begun(page: "Page") -> None:
    settled(page, "document.querySelector('.steps').textContent === 'beginning'")


def stepped(page: "Page", count: int) -> None:
    settled(page, f"document.querySelector('.steps').textContent === 'step {count}'")


def picture(page: "Page", of: str = "dream") -> np.ndarray:
    return np.array(page.evaluate(PIXELS, f".{of} .world"), np.float32).reshape(16, 16, 4)[..., :3]


def after(page: "Page", key: str) -> np.ndarray:
    """The frame after a key was tapped twice in a world that begins anew."""
    page.keyboard.press("Backspace")
    begun(page)
    for count in (1, 2):
        page.keyboard.press(key)
        stepped(page, count)
    return picture(page)


def differences(page: "Page") -> tuple[list[float], list[float]]:
    """Mean differences of frames after the same key, and after different ones."""
    frames = {key: (after(page, key), after(page, key)) for key in "123"}
    same = [float(np.abs(a - b).mean()) for a, b in frames.values()]
    return same, [float(np.abs(frames[a][0] - frames[b][0]).mean()) for a, b in ("12", "13", "23")]


def test_keys_change_the_world(page: "Page") -> None:
    same, different = differences(page)
    assert max(same) == 0 and min(different) > 1
    assert "ms" in page.inner_text("#step-time") and "dB" in page.inner_text("#drift")


@pytest.mark.slow
def test_keys_move_the_square_of_a_world_that_was_learned(browser: "Browser", tmp_path: Path) -> None:
    world, start = write_world(tmp_path / "square", taught()), write_recordings(tmp_path / "recordings")
    with played(world, "--start", start, home=tmp_path) as address, opened(browser, address, "", ".action") as page:
        begun(page)
        same, different = differences(page)  # each world has draws of its own
        assert min(different) > 2 * max(same) and min(different) > 5


def test_a_held_key_plays_on_until_it_is_released(page: "Page") -> None:
    page.keyboard.down("2")
    settled(page, "Number(document.querySelector('.steps').textContent.split(' ')[1]) >= 5")
    assert page.locator(".action-cell.lit").count() == 1
    page.keyboard.up("2")
    page.wait_for_timeout(500)
    rests = page.inner_text(".steps")
    page.wait_for_timeout(500)
    assert page.inner_text(".steps") == rests and page.locator(".action-cell.lit").count() == 0


def test_previews_show_what_an_action_does(page: "Page") -> None:
    settled(page, "document.querySelectorAll('.loop').length === 3")
    seen = set()
    for _ in range(60):
        seen.add(tuple(page.evaluate(PIXELS, ".action-cell:nth-child(2) .loop")))
        page.wait_for_timeout(100)
        if len(seen) >= 3:
            break
    assert len(seen) >= 3  # the beginning and what follows


def test_a_key_of_ones_own(page: "Page") -> None:
    page.locator(".action-cell").nth(2).hover()
    page.locator(".bind").nth(2).click()
    page.keyboard.press("ArrowDown")
    assert page.locator(".action-cell:nth-child(3) kbd").all_inner_texts() == ["3", "↓"]
    page.keyboard.press("ArrowDown")
    stepped(page, 1)
    page.locator(".bind").nth(2).click()
    page.keyboard.press("r")
    assert "has another use" in page.inner_text(".toast.bad")
    assert page.locator("#record").inner_text() == "Record"


def test_the_truth_beside_the_world(page: "Page") -> None:
    page.get_by_role("radio", name="Both").click()
    start = picture(page, "truth")
    assert np.array_equal(start, picture(page))
    page.get_by_role("button", name="Follow").click()
    page.wait_for_selector("text=The recording is over", timeout=60_000)
    last = LENGTH - 4  # the world knew the first four frames
    assert page.inner_text(".steps") == f"step {last}" and "dB from the truth" in page.inner_text(".dream figcaption")
    true, _ = recordings(3, LENGTH, np.random.default_rng(7))
    assert np.array_equal(picture(page, "truth"), true[0, -1])
    page.keyboard.press("1")
    stepped(page, last + 1)
    assert "the recording is over" in page.inner_text(".truth figcaption")


def test_another_beginning(page: "Page") -> None:
    page.get_by_role("radio", name="Recording 2").click()
    settled(page, "document.querySelectorAll('.thumb')[1].ariaChecked === 'true'")
    page.locator(".begin-slider input").fill("9")
    true, _ = recordings(3, LENGTH, np.random.default_rng(7))
    for _ in range(150):
        if np.array_equal(picture(page), true[1, 9]):
            break
        page.wait_for_timeout(100)
    assert np.array_equal(picture(page), true[1, 9]) and "10 of 16" in page.inner_text("#begin-at")


def test_the_recorder(page: "Page") -> None:
    av = pytest.importorskip("av", reason="needs the extra video")
    page.keyboard.press("r")
    page.wait_for_selector(".badge.rec:visible")
    for count in range(1, 6):
        page.keyboard.press("2")
        stepped(page, count)
    shown = picture(page)
    with page.expect_download() as saved:
        page.locator("#record").click()
    assert saved.value.suggested_filename == "square.mp4"
    with av.open(io.BytesIO(Path(saved.value.path()).read_bytes())) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 6  # the beginning and five steps
    assert np.abs(frames[-1][8::16, 8::16].astype(np.float32) - shown).mean() < 12


def test_two_players_have_separate_worlds_and_a_third_waits(browser: "Browser", address: str, page: "Page") -> None:
    with opened(browser, address, "", ".action") as other:
        begun(other)
        before = picture(other)
        page.keyboard.press("2")
        stepped(page, 1)
        other.wait_for_timeout(300)
        assert other.inner_text(".steps") == "beginning" and np.array_equal(before, picture(other))
        other.keyboard.press("3")
        stepped(other, 1)
        assert page.inner_text(".steps") == "step 1"
        with opened(browser, address, "", ".veil .primary") as third:
            assert "All places are taken: 2 players at once" in third.inner_text(".veil")
            other.close()
            third.wait_for_timeout(500)
            third.get_by_role("button", name="Try again").click()
            begun(third)


def test_a_phone(browser: "Browser", address: str) -> None:
    size = {"width": 390, "height": 844}
    with browser.new_context(viewport=size, has_touch=True, is_mobile=True) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(".action")
        begun(page)
        page.locator(".action").nth(1).tap()
        stepped(page, 1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for button in page.locator(".action, #reset, #record").all():
            box = button.bounding_box()
            assert box and box["width"] >= 44 and box["height"] >= 42
        box = page.locator(".action").last.bounding_box()
        assert box and box["y"] + box["height"] <= 844  # world and actions are seen together
