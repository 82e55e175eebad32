"""The page in a browser: that it is drawn, fits a phone, follows light and dark, and runs nothing from the data."""

import pytest

N_FIGURES, N_STRUCTURES = 6, 10
FIGURES_DRAWN = "return [...document.querySelectorAll('.plot')].filter((plot) => plot.querySelector('.xtick')).length"
GROUND = "return getComputedStyle(document.body).backgroundColor"
TEXT_OF_A_FIGURE = "return getComputedStyle(document.querySelector('.plot .xtick text')).fill"
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def opened(browser, run):
    """The browser with the page of a run, its figures drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("browser")
    browser.get((run.folder / "report.html").as_uri())
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(FIGURES_DRAWN) == N_FIGURES)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    use_scheme(browser, "light")


def use_scheme(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def colors(browser):
    """Brightness, 0 to 765, of the ground and of the text in a figure."""
    found = [browser.execute_script(script) for script in (GROUND, TEXT_OF_A_FIGURE)]
    return [sum(map(float, color[color.index("(") + 1 : -1].split(",")[:3])) for color in found]


def test_figures_and_structures_are_drawn(opened):
    from selenium.webdriver.support.ui import WebDriverWait

    assert len(opened.find_elements("class name", "plot")) == N_FIGURES
    structures = opened.find_elements("class name", "structure")
    assert len(structures) == N_STRUCTURES
    opened.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", structures[0])
    WebDriverWait(opened, 60).until(lambda _: structures[0].find_elements("tag name", "canvas"))


def test_light_and_dark(opened):
    from selenium.webdriver.support.ui import WebDriverWait

    use_scheme(opened, "light")
    ground, text = colors(opened)
    assert text < 200 < 600 < ground
    use_scheme(opened, "dark")
    WebDriverWait(opened, 20).until(lambda _: colors(opened)[1] > 600)
    assert colors(opened)[0] < 200
    opened.find_element("id", "theme").click()
    WebDriverWait(opened, 20).until(lambda _: colors(opened) == [ground, text])


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_screen(opened, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return window.innerWidth") == width
    assert opened.execute_script(TOO_WIDE) == 0


def test_nothing_was_fetched_logged_or_run(opened):
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert opened.execute_script("return window.hacked") is None
    assert opened.get_log("browser") == []
