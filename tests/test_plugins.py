from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from automl import plugins
from automl.components import CATALOGUES
from automl.errors import ConfigError

PLUGIN = '''
from automl.components import register

@register("scaling")
def {name}(task, *, factor: float = 2.0):
    """Leaves numbers as they are."""
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path; what is registered from it is forgotten afterwards."""
    plugins.load_builtin()
    known = dict(CATALOGUES["scaling"]._components)
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    yield tmp_path
    CATALOGUES["scaling"]._components = known
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_named_module_registers_its_components(folder: Path) -> None:
    (folder / "lab_one.py").write_text(PLUGIN.format(name="one"))
    assert plugins.load(["lab_one"]) == ("lab_one",)
    assert CATALOGUES["scaling"]["one"].summary == "Leaves numbers as they are."
    assert plugins.load(["lab_one"]) == ("lab_one",)  # again changes nothing


def test_the_environment_names_modules_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("two", "three"):
        (folder / f"lab_{name}.py").write_text(PLUGIN.format(name=name))
    monkeypatch.setenv(plugins.VARIABLE, "lab_two, ,lab_three")
    assert plugins.load(["lab_three"]) == ("lab_two", "lab_three")
    assert {"two", "three"} <= set(CATALOGUES["scaling"].names())


def test_an_installed_package_is_found_by_its_entry_point(folder: Path) -> None:
    (folder / "lab_four.py").write_text(PLUGIN.format(name="four"))
    info = folder / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[automl.plugins]\nlab = lab_four:anything\n")
    assert plugins.named_modules() == ("lab_four",)
    plugins.load()
    assert "four" in CATALOGUES["scaling"]


def test_what_is_imported_by_name_is_all_that_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("five", "six"):
        (folder / f"lab_{name}.py").write_text(PLUGIN.format(name=name))
    monkeypatch.setenv(plugins.VARIABLE, "lab_five")
    plugins.import_modules(["lab_six"])
    assert "six" in CATALOGUES["scaling"]
    assert "five" not in CATALOGUES["scaling"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "ModuleNotFoundError: No module named 'lab_bad'"),
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told(folder: Path, text: str | None, said: str) -> None:
    if text is not None:
        (folder / "lab_bad.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        plugins.load(["lab_bad"])
    assert str(caught.value).startswith("--plugin: the plug-in `lab_bad` cannot be imported: ")
    assert said in str(caught.value)


def test_a_plugin_may_not_take_a_name_that_is_taken(folder: Path) -> None:
    (folder / "lab_five.py").write_text(PLUGIN.format(name="standard"))
    with pytest.raises(ConfigError, match=r"the scaling `standard` is registered twice, by automl\..* and by lab_five"):
        plugins.load(["lab_five"])


def test_a_study_that_needs_a_plugin_says_which_flag_is_missing() -> None:
    plugins.require(["a"], ["a", "b"], where="x.yaml")
    with pytest.raises(ConfigError) as caught:
        plugins.require(["a", "b", "c"], ["b"], where="x.yaml")
    assert str(caught.value) == (
        "x.yaml: needs the plug-ins `a`, `c`, which are not loaded. A study cannot import code by itself; "
        "add --plugin a --plugin c"
    )


def test_every_network_file_is_registered_under_its_name() -> None:
    plugins.load_builtin()
    files = Path(plugins.__file__).with_name("networks").glob("[!_]*.py")
    assert {path.stem for path in files} <= set(CATALOGUES["network"].names())
