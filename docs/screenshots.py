"""Take the picture of the README: the report of a run and the app, side by side.

    python docs/screenshots.py                # needs chromium, chromedriver and the extras test, app and explain

A CGCNN is trained on the sample crystals (about a minute on two cores) in a temporary folder. Its report, and the app
with a prediction by it, are then opened in headless Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

CHECKOUT = Path(__file__).parents[1]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"
PICTURE = CHECKOUT / "docs" / "assets" / "screenshots.png"
CRYSTAL = "mp-10003.vasp"
WIDTH, HEIGHT = 1040, 1100  # of either page, CSS pixels
SCALE = 0.7  # of the finished picture
GAP, RADIUS, COLORS = 24, 12, 255
SECONDS = 180  # that either page may take on a busy machine
SECONDS_TO_DRAW = 8


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Open Chromium without a window; WebGL runs on the CPU."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--use-gl=angle",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--window-size={WIDTH},{HEIGHT}",
    ):  # fmt: skip
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    # the window's height includes a toolbar even in headless mode, so the size of the page is set by itself
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": light})
    try:
        yield opened
    finally:
        opened.quit()


def shoot(page: webdriver.Chrome, *, after: str, waits_for: int = 1) -> Image.Image:
    """Return the visible part of the page once so many elements of a CSS selector are there."""
    WebDriverWait(page, SECONDS).until(lambda _: len(page.find_elements("css selector", after)) >= waits_for)
    page.execute_script("window.scrollTo(0, 0)")
    return Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")


def shoot_report(page: webdriver.Chrome, run: Path) -> Image.Image:
    """Return the top of the report of a run: scores and the first plots."""
    page.get((run / "report.html").as_uri())
    return shoot(page, after=".plot .xtick")


def shoot_app(page: webdriver.Chrome, run: Path) -> Image.Image:
    """Return the app with the prediction for one crystal."""
    command = [sys.executable, "-m", "crysmm", "app", "--model", run.name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=run.parent
    ) as server:
        assert server.stdout is not None
        try:
            address = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
            page.get(address)
            WebDriverWait(page, SECONDS).until(lambda _: page.find_elements("css selector", "input[type=file]"))
            page.find_element("css selector", "input[type=file]").send_keys(str(SAMPLE_DATA / CRYSTAL))
            WebDriverWait(page, SECONDS).until(lambda _: page.find_elements("css selector", ".structure-card iframe"))
            page.switch_to.frame(page.find_element("css selector", ".structure-card iframe"))
            WebDriverWait(page, SECONDS).until(lambda _: page.find_elements("tag name", "canvas"))
            page.switch_to.default_content()
            time.sleep(SECONDS_TO_DRAW)  # 3Dmol.js draws after its canvas is there, and tells nobody
            return shoot(page, after=".structure-card")
        finally:
            server.terminate()


def side_by_side(*panels: Image.Image) -> Image.Image:
    """Return the panels next to each other, with round corners and thin borders."""
    size = (round(WIDTH * SCALE), round(HEIGHT * SCALE))
    whole = Image.new("RGB", (len(panels) * (size[0] + GAP) - GAP, size[1]), "white")
    for place, panel in enumerate(panels):
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), RADIUS, fill=255)
        small = panel.resize(size, Image.Resampling.LANCZOS)
        outline = (0, 0, size[0] - 1, size[1] - 1)
        ImageDraw.Draw(small).rounded_rectangle(outline, RADIUS, outline="#b8c4cc", width=2)
        whole.paste(small, (place * (size[0] + GAP), 0), mask)
    return whole


def main() -> None:
    """Train, open both pages, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="finished run to show instead of training one")
    parser.add_argument("--output", type=Path, default=PICTURE, help="PNG file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        run = arguments.run or Path(folder) / "bulk-modulus"
        if arguments.run is None:
            command = ["train", "--root_dir", str(SAMPLE_DATA), "--val_ratio", "0.2", "--output_dir", str(run)]
            subprocess.run([sys.executable, "-m", "crysmm", *command], check=True, cwd=CHECKOUT)
        picture = side_by_side(shoot_report(page, run.absolute()), shoot_app(page, run.absolute()))
    # a palette makes the file a third of the size; the difference is not visible in screenshots
    picture.quantize(COLORS, method=Image.Quantize.MEDIANCUT).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
