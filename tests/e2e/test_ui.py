"""What a person sees in MLflow's pages, in a real browser."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        if os.environ.get("CI"):
            pytest.fail("chromium and chromedriver must be installed where CI runs")
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def see(browser: Any, url: str, words: list[str], picture: Path) -> None:
    """Waits until a page shows all the words, and keeps a picture of it."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(url)
    text = "return document.body.innerText"
    try:
        WebDriverWait(browser, 60).until(lambda b: all(word in b.execute_script(text) for word in words))
    except TimeoutException:
        pytest.fail(f"{url} lacks {[w for w in words if w not in browser.execute_script(text)]}")
    finally:
        browser.save_screenshot(str(picture))


@pytest.mark.parametrize("command", ["automl ui", "mlflow server"])
def test_pages(
    finished: Any,
    browser: Any,
    serve: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    command: str,
) -> None:
    document = finished.quick("show", "small", "--json").json
    port = str(free_port())
    program = [sys.executable, "-m", *command.split()]
    program[2:] = ["automl", "ui"] if command == "automl ui" else ["mlflow", "server", "--workers", "1"]
    home = f"http://127.0.0.1:{port}"
    with serve([*program, "--port", port], f"{home}/health", finished.path, {}):
        experiment = f"{home}/#/experiments/{document['experiment_id']}"
        run = f"{experiment}/runs/{document['run_id']}"
        best = f"{experiment}/runs/{document['best']['run_id']}"
        pictures = tmp_path / "pictures"
        pictures.mkdir()
        see(browser, f"{home}/#/experiments", ["automl"], pictures / "experiments.png")
        see(browser, f"{experiment}/runs", ["small"], pictures / "runs.png")
        shipped = ["Predicts target", "shipped", "reference: boosting", "Configuration of the best trial"]
        see(browser, run, ["small", *shipped, "best_roc_auc", "test_roc_auc"], pictures / "study.png")
        see(browser, best, [f"trial {document['best']['number']}", "best_roc_auc", "lr"], pictures / "trial.png")
        see(browser, f"{best}/model-metrics", ["Model metrics", "best_accuracy"], pictures / "metrics.png")
        see(browser, f"{run}/artifacts", ["summary.md", "result.json"], pictures / "artifacts.png")
        model = document["model_uri"].removeprefix("models:/")
        see(browser, f"{experiment}/models/{model}", ["Ready", "small"], pictures / "model.png")
        see(browser, f"{experiment}/models/{model}/artifacts", ["MLmodel", "manifest.json"], pictures / "files.png")
