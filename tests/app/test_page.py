"""The running page: in a browser, and asked by others than a browser."""

import csv
import http.client
import json
import os
import socket
import time
from urllib.parse import urlsplit

import pytest

from crysmm.app.cards import EXAMPLE_FILES
from crysmm.cli.main import main

SECONDS = 60  # that the page may take for an answer on a busy machine


@pytest.fixture
def page(app, browser):
    """The page, opened anew."""
    browser.get(app.url)
    wait(browser, ".welcome")
    yield browser
    browser.get("about:blank")
    browser.get_log("browser")  # what gradio has written there is not for the next test


def wait(browser, selector):
    """The first element of a selector, when there is one."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, SECONDS).until(lambda _: browser.find_elements("css selector", selector))[0]


def wait_for_text(browser, selector, part):
    """Wait until the first element of a selector has this text in it."""
    from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, SECONDS).until(text_to_be_present_in_element(("css selector", selector), part))


def upload(browser, *files):
    wait(browser, "input[type=file]").send_keys("\n".join(map(str, files)))


def text(browser, selector):
    return wait(browser, selector).text


def predicted(run_folder, files, output, code=0):
    """Rows of the table of ``crysmm predict``."""
    assert main(["predict", "--model", str(run_folder), "--output", str(output), "--files", *map(str, files)]) == code
    with output.open(newline="") as file:
        return list(csv.DictReader(file))


def download(browser, name, folder):
    """The content of a file that a button gives."""
    folder.mkdir(exist_ok=True)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    kind = name.rpartition(".")[2].upper()
    browser.find_element("xpath", f"//button[contains(., '({kind})')]").click()
    eventually(lambda: (folder / name).is_file())
    return (folder / name).read_text()


def eventually(holds):
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def request(app, method, path, body=None, **headers):
    """Status and body of the answer to a request that is made without a browser."""
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=SECONDS)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_one_crystal(page, app, run_folder, sample_files, tmp_path):
    upload(page, sample_files[0])
    value = text(page, ".answer .value")
    (row,) = predicted(run_folder, sample_files[:1], tmp_path / "out.csv")
    assert value == f"{float(row['prediction']):.4g} GPa"
    assert text(page, ".answer .file") == sample_files[0].name
    ends = [element.text for element in page.find_elements("css selector", ".interval span")]
    assert ends == [f"{float(row['lower']):.4g}", "90% interval", f"{float(row['upper']):.4g} GPa"]
    assert download(page, "predictions.csv", tmp_path / "got") == (tmp_path / "out.csv").read_text()
    content = json.loads(download(page, "predictions.json", tmp_path / "got"))
    assert content["explanation"]["id"] == sample_files[0].name
    assert [cell.text for cell in page.find_elements("css selector", ".answer td:nth-child(2)")] == [
        near["id"] for near in content["crystals"][0]["nearest"]
    ]
    page.switch_to.frame(page.find_element("css selector", ".answer iframe"))
    wait(page, ".structure canvas")
    page.switch_to.default_content()
    _assert_nothing_came_from_elsewhere(page, app)


def _assert_nothing_came_from_elsewhere(page, app):
    """The page forbids the browser to load from elsewhere, which would complain of an attempt."""
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) > 10
    assert {urlsplit(address).netloc for address in loaded} == {urlsplit(app.url).netloc}
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_an_example_and_another_model(page, run_folder, tmp_path):
    page.find_element("xpath", "//button[contains(., 'Quartz')]").click()
    own = text(page, ".answer .value")
    (row,) = predicted(run_folder, [EXAMPLE_FILES / "quartz.cif"], tmp_path / "own.csv")
    assert own == f"{float(row['prediction']):.4g} GPa"
    page.find_element("css selector", "input[aria-label=Model]").click()
    page.find_element("xpath", "//*[@role='option'][contains(., 'cgcnn-formation-energy')]").click()
    wait_for_text(page, ".answer .value", "eV/atom")
    (row,) = predicted("cgcnn-formation-energy", [EXAMPLE_FILES / "quartz.cif"], tmp_path / "shipped.csv")
    assert text(page, ".answer .value") == f"{float(row['prediction']):.4g} eV/atom"
    assert "Held out: MAE about 0.041" in text(page, ".model-card")


def test_many_files_some_of_them_bad(page, app, run_folder, sample_files, tmp_path):
    bad = tmp_path / "bad.cif"
    bad.write_text("no structure")
    files = [*sample_files[:3], bad]
    upload(page, *files)
    assert "1 of 4 files not predicted" in text(page, ".notice.bad")
    assert "bad.cif: line 1 of the CIF cannot be read" in text(page, ".notice.bad li")
    rows = predicted(run_folder, files, tmp_path / "out.csv", code=1)
    assert download(page, "predictions.csv", tmp_path / "got") == (tmp_path / "out.csv").read_text()
    assert text(page, ".answer .file") == sample_files[0].name
    page.find_element("xpath", f"//*[contains(@class, 'summary')]//*[text()='{sample_files[2].name}']").click()
    eventually(lambda: text(page, ".answer .file") == sample_files[2].name)
    assert text(page, ".answer .value") == f"{float(rows[2]['prediction']):.4g} GPa"


def test_names_that_are_meant_to_do_harm_do_none(page, app, sample_files, tmp_path):
    """Whatever gradio leaves of them is text."""
    names = ["<img src=x onerror=window.harmed=1>.vasp", "${window.harmed=1}.vasp", "{{constructor}}.vasp", "..vasp"]
    for name in names:
        (tmp_path / name).write_text(sample_files[0].read_text())
    upload(page, *(tmp_path / name for name in names))
    shown = text(page, ".summary")
    assert "window.harmed=1" in shown
    assert "constructor" in shown
    wait(page, ".answer")
    assert page.execute_script("return window.harmed") is None
    assert page.find_elements("css selector", "img[src=x]") == []


def test_names_that_lead_elsewhere_lead_nowhere(app):
    body = '--x\r\nContent-Disposition: form-data; name="files"; filename="../../../evil.vasp"\r\n\r\n0\r\n--x--\r\n'
    request(app, "POST", "/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=x"})
    (folder,) = app.temporary.iterdir()
    assert [path.name for path in folder.rglob("*evil*")] == ["evil.vasp"]
    assert not list(app.working.iterdir())


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        f"/gradio_api/file={EXAMPLE_FILES / 'rutile.vasp'}",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=https://example.org/",
        "/gradio_api/proxy=https://example.hf.space/",
        "/gradio_api/vibe-code",
        "/static/../../../../../../etc/passwd",
        "/docs",
    ],
)
def test_other_files_and_other_services_are_refused(app, path):
    status, body = request(app, "GET", path)
    assert status == 403
    assert b"root:" not in body


@pytest.mark.parametrize("headers", [{"Host": "example.org"}, {"Origin": "https://example.org"}])
def test_other_names_and_foreign_pages_are_refused(app, headers):
    assert request(app, "GET", "/")[0] == 200
    assert request(app, "GET", "/", **headers)[0] == 403


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (os.path.abspath(__file__), "it was not uploaded by a user"),
        ("https://93.184.216.34/POSCAR", "contacts no other machine, and 93.184.216.34 is one"),
        ("https://example.org/POSCAR", "contacts no other machine, and example.org is one"),
    ],
)
def test_a_request_of_the_page_s_kind_reads_nothing_but_uploads(app, path, answer):
    config = json.loads(request(app, "GET", "/config")[1])
    asking = next(event for event in config["dependencies"] if len(event["inputs"]) == 2)
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [[file], "cgcnn-formation-energy"], "fn_index": asking["id"], "session_hash": "test"}
    assert (
        request(app, "POST", "/gradio_api/queue/join", json.dumps(body), **{"Content-Type": "application/json"})[0]
        == 200
    )
    events = request(app, "GET", "/gradio_api/queue/data?session_hash=test")[1].decode()
    assert answer in events


def test_only_this_machine_is_listened_to(app):
    """Every address 127.x.y.z is this machine's, but a server of all addresses would answer to more than one."""
    socket.create_connection(("127.0.0.1", app.port), timeout=5).close()
    with pytest.raises(OSError):  # noqa: PT011  # systems differ in what they call it
        socket.create_connection(("127.0.0.2", app.port), timeout=5)


def test_ctrl_c_ends_it_in_a_line_and_leaves_nothing(app):
    assert app.end() == 130
    assert app.output.splitlines()[-1] == "crysmm: stopped by Ctrl-C"
    assert "KeyboardInterrupt" not in app.output
    assert list(app.temporary.iterdir()) == []
