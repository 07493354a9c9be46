"""The browser page as a user meets it, in headless Chromium: a real network
goes in, the pages are there, what comes out is what the command line writes, and
it runs. Nothing is asked of a network, and the console stays silent.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(os.environ["PAGE"])
CAMPANA = os.environ["CAMPANA"]
NETWORK = ROOT / "fixtures/cifar10_resnet8.onnx"
SIDECAR = NETWORK.with_suffix(".json")
# Where the pictures go that a person looks at.
PICTURES = os.environ.get("PICTURES")


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        # A camera that shows a moving pattern.
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture
def open_page(browser):
    """Opens the page; at the end nothing was said or asked."""
    opened = []

    def open_page(**options):
        context = browser.new_context(accept_downloads=True, **options)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(PAGE.as_uri())
        opened.append((context, said, asked))
        return page

    yield open_page
    for context, said, asked in opened:
        context.close()
        assert said == []
        elsewhere = [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]
        assert elsewhere == []


def choose(page, name, data, *others):
    files = [(name, data), *((other.name, other.read_bytes()) for other in others)]
    page.set_input_files("#file", [{"name": name, "mimeType": "", "buffer": data} for name, data in files])


def report(page):
    """The page that is shown, once it is there."""
    page.wait_for_selector("#view:visible", timeout=60_000)
    frame = page.frame_locator("#view")
    frame.locator("footer").wait_for()
    return frame


def picture(page, name):
    if PICTURES:
        page.wait_for_timeout(300)
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def by_command_line(folder, network, name, *options):
    """What the command line writes into a file of a name like this."""
    output = folder / f"by-command-line{Path(name).suffix}"
    command = [CAMPANA, "quantize", network, "-o", output, "--no-correct", "--force", *options]
    subprocess.run(command, check=True, capture_output=True)
    return output.read_bytes()


@pytest.mark.parametrize(
    "target, bits, method, ending",
    [
        ("lut", "4", "auto", "4bit.onnx"),
        ("lut", "3", "ks", "3bit.onnx"),
        ("campana", "2", "kmeans", "2bit.campana"),
        ("tflite-float", "5", "ggd", "5bit.tflite"),
    ],
)
def test_the_network_is_the_command_lines(open_page, tmp_path, target, bits, method, ending):
    page = open_page()
    choose(page, NETWORK.name, NETWORK.read_bytes(), SIDECAR)
    report(page)
    page.select_option("#target", target)
    page.select_option("#bits", bits)
    page.select_option("#method", method)
    page.uncheck("#correct")
    page.click("#quantize")
    with page.expect_download() as download:
        page.click("#download", timeout=60_000)
    assert download.value.suggested_filename == f"cifar10_resnet8-{ending}"
    made = Path(download.value.path()).read_bytes()
    expected = by_command_line(tmp_path, NETWORK, ending, "--bits", bits, "--method", method, "--target", target)
    assert made == expected


@pytest.mark.parametrize("target", ["lut", "w4a8", "int8", "campana"])
def test_the_sample_is_corrected_and_answers_as_before(open_page, target):
    page = open_page()
    page.click("#try")
    report(page)
    assert page.inner_text("#level") == ""
    page.select_option("#target", target)
    page.click("#quantize")
    page.wait_for_selector("#alike:not(:empty)", timeout=120_000)
    assert "with the correction" in page.inner_text("#elapsed")
    assert page.locator("#runs tbody tr").count() == 12
    alike = int(page.inner_text("#alike").split(" of 12")[0])
    assert alike >= 11
    assert "airplane" in page.inner_text("#runs")


def test_a_network_for_other_runtimes_is_not_run(open_page):
    page = open_page()
    page.click("#try")
    report(page)
    page.select_option("#target", "tflite")
    page.uncheck("#correct")
    page.click("#quantize")
    page.wait_for_selector("#runnote:visible", timeout=60_000)
    assert "cannot run both networks" in page.inner_text("#runnote")
    assert page.is_hidden("#runs")


def test_a_picture_of_the_camera_is_run_and_a_refused_camera_said(open_page):
    page = open_page(permissions=["camera"])
    # A page from a disk has its permission from nowhere else.
    page.click("#try")
    report(page)
    page.uncheck("#correct")
    page.click("#quantize")
    page.wait_for_selector("#alike:not(:empty)", timeout=60_000)
    page.click("#camera")
    page.wait_for_selector("#runs tbody tr:nth-child(13), #failure:not([hidden])", timeout=30_000)
    if page.locator("#runs tbody tr").count() != 13:
        assert "There is no picture from the camera" in page.inner_text("#failure")


def test_the_page_is_usable_at_once(open_page):
    page = open_page()
    timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    assert page.evaluate(timing) < 2000
    assert page.is_enabled("#try")


@pytest.mark.parametrize("width", [1280, 390])
def test_reports_are_shown(open_page, scheme, width):
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 844})
    picture(page, f"start-{scheme}-{width}")
    page.click("#try")
    assert report(page).locator("article.card, .card").count() == 10
    picture(page, f"inspected-{scheme}-{width}")
    page.click("#quantize")
    page.wait_for_selector("#result:visible", timeout=120_000)
    page.wait_for_selector("#busy", state="hidden", timeout=60_000)
    assert "smaller" in page.inner_text("#result")
    report(page).get_by_text("times smaller").first.wait_for()
    picture(page, f"quantized-{scheme}-{width}")
    # The page scrolls, in one direction.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    view = page.locator("#view").bounding_box()
    assert view["height"] > 2 * 844
    page.click("#distributions")
    report(page).get_by_text("Families found").wait_for()


def test_what_is_no_network_is_refused(open_page):
    page = open_page()
    choose(page, "photo.onnx", b"\x89PNG\r\n\x1a\n" + bytes(100))
    page.wait_for_selector("#failure:visible")
    assert "cannot read 'photo.onnx'" in page.inner_text("#failure")
    # The next file is welcome.
    choose(page, NETWORK.name, NETWORK.read_bytes())
    report(page)
    assert page.is_hidden("#failure")


def test_weights_that_are_no_numbers_are_refused(open_page):
    data = bytearray(NETWORK.read_bytes())
    # The middle of the file is some layer's weights: NaN in little-endian.
    middle = len(data) // 2 // 4 * 4
    for at in range(middle, middle + 64):
        data[at] = 0xFF
    page = open_page()
    choose(page, "broken.onnx", bytes(data))
    page.wait_for_selector("#failure:visible")
    assert "NaN or infinite weights" in page.inner_text("#failure")
    assert page.is_hidden("#choices")


def test_a_cancelled_file_can_be_taken_again(open_page):
    page = open_page()
    choose(page, NETWORK.name, NETWORK.read_bytes())
    page.evaluate("document.getElementById('cancel').click()")
    page.wait_for_selector("#busy", state="hidden")
    choose(page, NETWORK.name, NETWORK.read_bytes())
    report(page)
    page.click("#quantize")
    page.evaluate("document.getElementById('cancel').click()")
    page.wait_for_selector("#busy", state="hidden")
    assert page.is_hidden("#failure")
    page.click("#quantize")
    page.wait_for_selector("#download:visible", timeout=120_000)
