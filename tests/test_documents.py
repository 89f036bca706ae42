from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from automl.documents import MAX_BYTES, differences, parse_yaml, read_yaml, validate, within
from automl.errors import ConfigError


def refused(text: str) -> str:
    """Returns what is said of a text that is not read; that it is a ConfigError and nothing else is half the test."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, where="x.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("12.", 12.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("012", 12),
        ("-7", -7),
        ("+7", 7),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        # what YAML 1.1 and PyYAML take for something else
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
        ("0b11", "0b11"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        (".", "."),
        ("'1e-4'", "1e-4"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, value: Any) -> None:
    found = parse_yaml(f"key: {written}", where="x.yaml")["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_number() -> None:
    assert parse_yaml("[.nan]", where="x.yaml")[0] != parse_yaml("[.nan]", where="x.yaml")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3:1: the key `a` stands twice, first on line 1."),
        ("a:\n  b: 1\n  b: 1\n", "x.yaml:3:3: the key `b` stands twice, first on line 2."),
        ("1: a\n", "x.yaml:1:1: the key `1` is not a word."),
        ("? [a]\n: b\n", "x.yaml:1:3: the key `['a']` is not a word."),
        ("null: a\n", "the key `None` is not a word"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1: "),
        ("a: [1, 2\nb: 3\n", "x.yaml:2:"),
        ("a: 'open\n", "x.yaml:2:1: "),
        ("\ta: 1\n", "x.yaml:1:1: "),
        ("a: *nothing\n", "x.yaml:1:4: "),
        ("", "x.yaml: is empty."),
        ("# a comment\n", "x.yaml: is empty."),
        ("a: \x00\n", "x.yaml: "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object:os.system {}",
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
        "!own {}",
        # PyYAML's safe loader makes these into what no study holds
        "!!binary aGVsbG8=",
        "!!timestamp 2026-01-31",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        # contradictions
        "!!int abc",
        "!!int [1]",
        "!!float abc",
        "!!bool abc",
        "!!map [1]",
        "!!seq {}",
    ],
)
def test_tags_build_nothing_but_plain_values(tag: str) -> None:
    assert refused(f"a: {tag}\n").startswith("x.yaml")


def test_an_alias_repeats_a_value() -> None:
    assert parse_yaml("a: &one {x: 1}\nb: *one\n", where="x.yaml") == {"a": {"x": 1}, "b": {"x": 1}}


def test_merge_keys_are_not_of_yaml_1_2() -> None:
    assert parse_yaml("<<: {a: 1}\nb: 2\n", where="x.yaml") == {"<<": {"a": 1}, "b": 2}


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "too large or too deep" in refused("\n".join(lines))


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "[" * 60 + "]" * 60, "[" * 1_500, "{a: " * 1_500])
def test_what_never_ends_is_refused(text: str) -> None:
    assert "too large or too deep" in refused(text)


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    assert refused("a: " + "9" * 5000).startswith("x.yaml")


# --- files -------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_and_windows_lines_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: Z\xc3\xbcrich\r\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": 1, "b": "Zürich"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: Z\xfcrich\n", "is not UTF-8 (byte 7). Save it as UTF-8."),
        ("name: x\n".encode("utf-16"), "is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "is 1,048,577 bytes; at most 1,048,576 are read"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_documents(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "x.yaml")
    assert said in str(caught.value)
    assert str(tmp_path / "x.yaml") in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"no such file\. Did you mean `churn.yaml`\?"):
        read_yaml(tmp_path / "chrun.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "nowhere" / "churn.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)


# --- validation ----------------------------------------------------------------------------------------------------


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    size: int = 1
    kind: Literal["small", "large"] = "small"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    inner: Inner = Inner()
    many: list[Inner] = []


def problems(document: Any, flags: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(Outer, document, where="x.yaml", flags=flags)
    return [str(problem) for problem in caught.value.problems]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    document = {"inner": {"size": "big", "kind": "smal", "sise": 1}, "many": [{"size": 2}, {"kind": [1]}], "nam": "x"}
    expected = [
        "x.yaml: name: is missing. Add it.",
        "x.yaml: inner.size: found `big`; ",
        "x.yaml: inner.kind: found `smal`; allowed: `small`, `large`. Did you mean `small`?",
        "x.yaml: inner.sise: unknown key `sise`. Did you mean `size`?",
        "x.yaml: many.1.kind: found a list; allowed: `small`, `large`.",
        "x.yaml: nam: unknown key `nam`. Did you mean `name`?",
    ]
    told = problems(document)
    assert len(told) == len(expected)
    assert all(line.startswith(start) for line, start in zip(told, expected, strict=True))


def test_what_a_flag_has_set_is_told_of_the_flag() -> None:
    (told,) = problems({"name": "x", "inner": {"size": "big"}}, flags={"inner.size": "--size"})
    assert told.startswith("--size: found `big`")


@pytest.mark.parametrize("document", [None, [], "words", 5])
def test_a_document_is_a_mapping(document: Any) -> None:
    assert problems(document) == ["x.yaml: is not a mapping of keys to values."]


def test_a_valid_document_becomes_the_model() -> None:
    found = validate(Outer, {"name": "x", "many": [{"kind": "large"}]}, where="x.yaml")
    assert found == Outer(name="x", many=[Inner(kind="large")])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["`a.b` was 1 and is now 2"]),
        ({"a": 1}, {"b": 1}, ["`a` is gone", "`b` is new"]),
        ([{"name": "x", "low": 1}], [{"name": "x", "low": 2}], ["`list.x.low` was 1 and is now 2"]),
        ([{"name": "x"}, {"name": "y"}], [{"name": "y"}, {"name": "x"}], ["`list` is in another order"]),
        ([{"stage": "scaling"}], [{"stage": "scaling"}, {"stage": "reduction"}], ["`list.reduction` is new"]),
        ([1, 2], [1], ["`list` was [1, 2] and is now [1]"]),
        ("x" * 100, "y", [f"`list` was '{'x' * 59}... and is now 'y'"]),
    ],
)
def test_differences_are_told_with_their_paths(old: Any, new: Any, told: list[str]) -> None:
    assert list(differences(old, new, "" if isinstance(old, dict) else "list")) == told


def test_a_path_stays_in_the_documents_folder(tmp_path: Path) -> None:
    base = tmp_path / "study"
    (base / "data").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    (base / "link").symlink_to(tmp_path / "secret")
    (base / "loop").symlink_to(base / "data")
    for path in ("x.csv", "data/x.csv", "data/../x.csv", "loop/x.csv"):
        assert within(base, path, "here") == base / path
    assert within(base, str(tmp_path / "secret"), "here") == tmp_path / "secret"  # in full, for everyone to see
    for path in ("../secret", "data/../../secret", "link", "nul\0"):
        with pytest.raises(ConfigError, match=r"^here: "):
            within(base, path, "here")
