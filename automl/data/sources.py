"""Where tables come from: files, databases and the sets that scikit-learn brings along.

A source is a factory `source(base, *, ...) -> DataFrame`; `base` is the folder that relative paths start from, that
of the study file. Everything that can be wrong with a file is told as a sentence about that file.
"""

from __future__ import annotations

import csv
import gzip
import inspect
import json
import os
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import pandas as pd

from automl.components import catalogue, register
from automl.data.images import ENDINGS
from automl.documents import within
from automl.errors import ConfigError, DataError, Problem, did_you_mean
from automl.values import Choice

if TYPE_CHECKING:
    from sqlalchemy import URL

#: Ending of a file's name -> source and what else it must be told. Longer endings come first.
_ENDINGS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    ".csv.gz": ("csv", {}),
    ".tsv.gz": ("csv", {"separator": "\t"}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"separator": "\t"}),
    ".parquet": ("parquet", {}),
    ".pq": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".feather": ("arrow", {}),
    ".jsonl": ("jsonl", {}),
    ".ndjson": ("jsonl", {}),
}

#: Columns of a folder of images: the path of each in it, and its class.
IMAGE, LABEL = "image", "label"

#: Folders that hold parts of a data set: these are no classes.
_PART_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing", None)

_SEPARATORS = {",": ",", ";": ";", "\t": r"\t", "|": "|"}


def read(source: str, params: Mapping[str, Any], base: Path) -> pd.DataFrame:
    """Returns the table that a source gives, with rows numbered from 0; (rows, columns), at least one of each.

    Args:
        source: Name of a registered source.
        params: Its parameters, as in `data.params` of a study.
        base: Folder that relative paths start from.

    Raises:
        ConfigError: There is no such source, or it does not take these parameters.
        DataError: The table cannot be read, or is empty.
    """
    check_params(source, params)
    with readable(source, params):
        frame: pd.DataFrame = catalogue("source").build(Choice(source, params), base)
    where = describe(source, params)
    refuse_repeated_names(list(frame.columns), where)
    if frame.empty:
        raise DataError(f"the table has {len(frame)} rows and {len(frame.columns)} columns", where=where)
    return numbered(frame)


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a table with rows numbered from 0."""
    # A named index is a column that somebody set aside; an unnamed one is only what numbering was left by a filter.
    return frame.reset_index(drop=frame.index.names == [None])


@contextmanager
def readable(source: str, params: Mapping[str, Any]) -> Iterator[None]:
    """Turns what the system says of a file that cannot be read into a DataError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:  # the last two are of broken gzip files
        raise DataError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}",
            where=describe(source, params),
            remedy="Check that the file is whole and that you may read it.",
        ) from error


def infer(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the source for a file or folder that a person has typed, and its parameters, from its name's ending.

    Raises:
        DataError: The ending is not known.
    """
    # A person who types a path may go anywhere.
    inside = path.resolve().is_relative_to(Path.cwd().resolve())
    typed = str(path if inside else path.expanduser().resolve())
    for ending, (source, params) in _ENDINGS.items():
        if path.name.lower().endswith(ending):
            return source, {"path": typed, **params}
    if path.is_dir():
        tables = any(file.suffix in (".parquet", ".pq") for file in path.rglob("*"))
        return "parquet" if tables or not image_files(path) else "folder", {"path": typed}
    if not path.exists() and not path.suffix:
        nearby = sorted(os.listdir(path.parent)) if path.parent.is_dir() else []
        raise DataError("there is no such file or folder", where=str(path), remedy=did_you_mean(path.name, nearby))
    raise DataError(
        f"the ending `{path.suffix}` does not tell how to read it" if path.suffix else "its name has no ending",
        where=str(path),
        remedy=f"Known: {', '.join(_ENDINGS)}. For another, write a study with `data.source` and `data.params`.",
    )


def describe(source: str, params: Mapping[str, Any]) -> str:
    """Returns where a table comes from, in a few words that hold no secret."""
    # Only parameters that are known to be harmless are shown: those of a plug-in's source may be anything.
    if source == "sql":
        place = f"${params['url_env']}" if params.get("url_env") else str(params.get("url")).partition("?")[0]
        # What is not an address of a file is refused later, and must not be repeated by the message that does so.
        return f"sql {place}" if place.startswith(("sqlite:", "$")) and "@" not in place else "sql"
    return " ".join([source, *(str(params[key]) for key in ("path", "name") if key in params)])


# --- the sources -------------------------------------------------------------------------------------------------


@register("source", name="csv")
def csv_file(
    base: Path, *, path: str, separator: str = ",", decimal: str = ".", encoding: str = "utf-8"
) -> pd.DataFrame:
    r"""Returns a file of separated values with a header line, plain or gzipped.

    Args:
        base: Folder that a relative path starts from.
        path: The file.
        separator: What stands between two values, such as `;` or `\t`.
        decimal: The decimal mark, such as `,`.
        encoding: Of the file's text.
    """
    file, options = csv_options(base, path=path, separator=separator, decimal=decimal, encoding=encoding)
    try:
        frame: pd.DataFrame = pd.read_csv(file, **options)
        return frame
    except pd.errors.ParserError as error:
        raise not_a("csv", file, error) from error


def csv_options(
    base: Path, *, path: str, separator: str = ",", decimal: str = ".", encoding: str = "utf-8"
) -> tuple[Path, dict[str, Any]]:
    """Returns a checked file of separated values, and how pandas is to read it; arguments as of `csv_file`."""
    file = existing_file(base, path)
    if len(separator) != 1:
        raise ConfigError(
            f"`{separator}` is not one character",
            where="data.params.separator",
            remedy='Write a tab as "\\t", in double quotes.',
        )
    # Excel marks its UTF-8 files by three bytes that would become part of the first column's name.
    encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    _check_csv(file, separator, encoding)
    return file, {
        "sep": separator,
        "decimal": decimal,
        "encoding": encoding,
        "compression": "gzip" if _is_gzipped(file) else None,
        # This would guess types chunk by chunk, so that one column could hold both 1 and "1".
        "low_memory": False,
    }


@register("source")
def parquet(base: Path, *, path: str) -> pd.DataFrame:
    """Returns a parquet file, or all parquet files of a folder as one table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = existing(base, path) if (base / path).is_dir() else existing_file(base, path)
    if place.is_dir() and not any(file.suffix in (".parquet", ".pq") for file in place.rglob("*")):
        raise DataError("the folder holds no parquet files and no images", where=str(place))
    try:
        if place.is_file():  # Arrow cannot read repeated names, and says so less clearly
            refuse_repeated_names(pq.read_schema(place).names, str(place))
        table = pq.read_table(place)
        table.validate(full=True)  # or what is no UTF-8 is met wherever a text is looked at
        frame: pd.DataFrame = table.to_pandas()
        return frame
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise not_a("parquet", place, error) from error


@register("source")
def folder(base: Path, *, path: str) -> pd.DataFrame:
    """Returns the images of a folder with one sub-folder a class, as `image` (path within it) and `label`.

    As in torchvision's `ImageFolder`, how deep a file lies in the folder of its class does not matter. Images that lie
    in no folder of a class have no label: these can be predicted.

    Args:
        base: Folder that a relative path starts from.
        path: The folder.
    """
    place = existing(base, path, deep=False)
    files = image_files(place)
    if not files:
        raise DataError("the folder holds no images", where=str(place), remedy=f"Known: {', '.join(ENDINGS)}.")
    labels = [file.parts[0] if len(file.parts) > 1 else None for file in files]
    if {*labels} <= {*_PART_NAMES} and any(labels):
        names = ", ".join(f"`{name}`" for name in sorted({*filter(None, labels)}))
        raise DataError(
            f"its folders {names} are parts of the images, not classes of them",
            where=str(place),
            remedy=f"Name the part to learn from: {place / next(filter(None, labels))}",
        )
    return pd.DataFrame({IMAGE: [file.as_posix() for file in files], LABEL: pd.Series(labels, dtype="str")})


def image_files(place: Path) -> list[Path]:
    """Returns the images below a folder, by their paths within it, sorted; hidden ones are left out."""
    found = (file.relative_to(place) for file in place.rglob("*") if file.suffix.lower() in ENDINGS)
    return sorted(file for file in found if not any(part.startswith(".") for part in file.parts))


@register("source")
def arrow(base: Path, *, path: str) -> pd.DataFrame:
    """Returns an Arrow IPC file or stream (also called Feather)."""
    import pyarrow as pa

    file = existing_file(base, path)
    try:
        with pa.memory_map(str(file)) as buffer:
            try:
                table = pa.ipc.open_file(buffer).read_all()
            except pa.ArrowInvalid:
                buffer.seek(0)
                table = pa.ipc.open_stream(buffer).read_all()
            table.validate(full=True)
            frame: pd.DataFrame = table.to_pandas()
            return frame
    except pa.ArrowInvalid as error:
        raise not_a("Arrow", file, error) from error


@register("source")
def jsonl(base: Path, *, path: str) -> pd.DataFrame:
    """Returns a file with one JSON object a line."""
    return pd.DataFrame(list(records(existing_file(base, path))))


def records(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file with one JSON object a line; raises DataError for a line that holds none."""
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(_decoded(lines, file, "utf-8"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} is no JSON: {error}", where=str(file)) from error
            except RecursionError:
                raise DataError(
                    f"line {number} is nested too deep", where=str(file), remedy="Spread what is inside over columns."
                ) from None
            if not isinstance(record, dict):
                raise DataError(
                    f"line {number} holds no JSON object",
                    where=str(file),
                    remedy='Every line must be an object, such as {"age": 41, "city": "Bern"}.',
                )
            yield record


@register("source", name="sklearn")
def sklearn_set(base: Path, *, name: Literal["breast_cancer", "diabetes", "digits", "iris", "wine"]) -> pd.DataFrame:
    """Returns a small set that comes with scikit-learn, with the column `target`; classes go by their names."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    names = bunch.get("target_names")
    frame: pd.DataFrame = bunch.frame
    return frame if names is None else frame.assign(target=names[bunch.target])


@register("source")
def sql(base: Path, *, query: str, url: str | None = None, url_env: str | None = None) -> pd.DataFrame:
    """Returns what a query selects from a database.

    Args:
        base: Folder that the relative path of an SQLite file starts from.
        query: A SELECT statement.
        url: Address of an SQLite file, such as `sqlite:///sales.db`. No other: a study holds no secrets.
        url_env: Name of the environment variable with the database's address, in SQLAlchemy's form.
    """
    from sqlalchemy import create_engine, event, exc, text

    if (url is None) == (url_env is None):
        raise ConfigError(
            "a database needs exactly one of `url` and `url_env`",
            where="data.params",
            remedy="Write `url: sqlite:///FILE`, or `url_env: NAME` of the environment variable with the address.",
        )
    address = _sqlite_address(base, url) if url is not None else _secret_address(str(url_env))
    try:
        engine = create_engine(address)
        if address.get_backend_name() == "sqlite":
            event.listen(engine, "connect", lambda connection, _: connection.set_authorizer(_only_reads))
        try:
            # Never committed: a study reads.
            with engine.connect() as connection:
                result = connection.execute(text(query))
                rows = [tuple(row) for row in result]
                return pd.DataFrame.from_records(rows, columns=list(result.keys()), coerce_float=True)
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        raise DataError(
            f"the driver `{error.name}` for this database is not installed",
            where=address.drivername,
            remedy=f"Install it: pip install {error.name}",
        ) from error
    except exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        if address.password:
            reason = reason.replace(str(address.password), "***")
        raise DataError(
            f"the database refuses: {reason}",
            where=address.render_as_string(hide_password=True).partition("?")[0],
            remedy="Check the query and the address.",
        ) from None  # the chained error may spell out the address


# --- parameters and paths ----------------------------------------------------------------------------------------


def check_params(source: str, params: Mapping[str, Any]) -> None:
    """Raises ConfigError where there is no such source, or it does not take these parameters."""
    known = catalogue("source")[source].hyperparameters
    problems = [
        Problem(f"the source `{source}` takes no `{name}`", f"data.params.{name}", did_you_mean(name, list(known)))
        for name in params
        if name not in known
    ]
    for name, parameter in known.items():
        where = f"data.params.{name}"
        if name not in params:
            default: object = parameter.default
            if default is inspect.Parameter.empty:
                problems.append(Problem(f"the source `{source}` needs `{name}`", where))
        elif not parameter.accepts(params[name]):
            # The value is not repeated: it may be a secret in the wrong place.
            problems.append(Problem("not a value that is taken here", where, f"Allowed: {parameter.describe()}."))
    if problems:
        raise ConfigError(problems)


def existing(base: Path, path: str, *, deep: bool = True) -> Path:
    """Returns the path from `base`; raises DataError where there is nothing, with the nearest names there.

    Args:
        base, path: As of `within`.
        deep: As of `within`.

    Raises:
        ConfigError: A relative path leads out of the folder, or a link in a folder that it names does.
    """
    place = within(base, path, "data.params.path", deep=deep)
    if place.exists():
        return place
    if not place.parent.is_dir():
        raise DataError(
            "there is no such folder", where=str(place.parent), remedy="Paths start from the study's folder."
        )
    raise DataError(
        "there is no such file", where=str(place), remedy=did_you_mean(place.name, sorted(os.listdir(place.parent)))
    )


def existing_file(base: Path, path: str) -> Path:
    """Returns the path of a file that is not empty; raises DataError where it is a folder or empty."""
    file = existing(base, path)
    if file.is_dir():
        raise DataError("this is a folder, and a file is expected", where=str(file), remedy="Name the file inside it.")
    if file.stat().st_size == 0:
        raise DataError("the file is empty", where=str(file))
    return file


def not_a(form: str, file: Path, error: Exception) -> DataError:
    """Returns what is told of a file that is not of its form."""
    first = str(error).partition("\n")[0].rstrip(".")
    remedy = "Write its texts as UTF-8." if "UTF8" in first else "Check that the file is whole."
    return DataError(f"cannot be read as {form}: {first}", where=str(file), remedy=remedy)


def refuse_repeated_names(names: list[Any], where: str) -> None:
    """Raises DataError where two columns have one name."""
    repeated = [f"`{name}`" for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"several columns have the same name: {', '.join(repeated)}", where=where, remedy="Give each its own name."
        )


# --- separated values --------------------------------------------------------------------------------------------


def _is_gzipped(file: Path) -> bool:
    return file.name.lower().endswith(".gz")


def _check_csv(file: Path, separator: str, encoding: str) -> None:
    """Raises DataError for what pandas would silently repair or report without naming the line."""
    where = str(file)
    try:
        opened = (gzip.open if _is_gzipped(file) else open)(file, "rt", encoding=encoding, newline="")
    except LookupError as error:
        raise DataError(f"unknown encoding `{encoding}`", where=where, remedy="Such as `utf-8` or `cp1252`.") from error
    with opened as lines:
        rows = csv.reader(_decoded(lines, file, encoding), delimiter=separator)
        try:
            header = next((row for row in rows if row), None)
            if header is None:
                raise DataError("the file is empty", where=where)
            _check_header(header, separator, where)
            n_rows = 0
            for row in rows:
                n_rows += bool(row)
                if row and len(row) != len(header):
                    raise DataError(
                        f"line {rows.line_num} has {len(row)} values, and the header names {len(header)} columns",
                        where=where,
                        remedy="Values that hold the separator must stand in quotes, which must be closed: "
                        '"Bern, Switzerland".',
                    )
        except csv.Error as error:
            raise DataError(
                f"line {rows.line_num} cannot be read: {error}",
                where=where,
                remedy="The usual cause is a quote that is opened and never closed.",
            ) from error
    if n_rows == 0:
        raise DataError("the file has a header and no rows", where=where)


def _check_header(header: list[str], separator: str, where: str) -> None:
    refuse_repeated_names([name for name in header if name], where)  # pandas would rename the second to `name.1`
    other = next((mark for mark in _SEPARATORS if mark != separator and mark in header[0]), None)
    if len(header) == 1 and other is not None:
        raise DataError(
            f"there is one column only, with the name `{header[0]}`",
            where=where,
            remedy=f'The values seem to be separated otherwise: set `separator: "{_SEPARATORS[other]}"`.',
        )


def _decoded(lines: IO[str], file: Path, encoding: str) -> Iterator[str]:
    """Yields the lines of a text file; raises DataError for what is not in its encoding."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):  # noqa: B007 - the number is used when the next line fails
            yield line
    except UnicodeDecodeError as error:
        raise DataError(
            f"the text after line {number} is not {encoding.removesuffix('-sig')} ({error.reason})",
            where=str(file),
            remedy="Set `encoding`, such as `cp1252` for files from Windows, or save the file as UTF-8.",
        ) from error


# --- addresses of databases --------------------------------------------------------------------------------------


def _sqlite_address(base: Path, url: str) -> URL:
    """Returns the address of an SQLite file, read-only, from an address in a study; raises DataError."""
    from sqlalchemy import make_url
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import ArgumentError

    try:
        given = make_url(url)
    except ArgumentError:
        given = URL.create("unreadable")
    if given.get_backend_name() != "sqlite" or not given.database or given.database == ":memory:":
        # The address is not repeated: it may hold a password.
        raise ConfigError(
            "only the address of an SQLite file may stand in a study, since others hold secrets",
            where="data.params.url",
            remedy="Put the address into an environment variable and its name into `url_env`.",
        )
    # Without mode=ro SQLite would create what does not exist, and a query could change what does.
    file = quote(str(existing_file(base, given.database).resolve()))
    return URL.create("sqlite", database=f"file:{file}", query={"mode": "ro", "uri": "true"})


def _only_reads(action: int, first: str | None, *_: str | None) -> int:
    """Returns whether SQLite may do something; opened to be read, it would still write another file when asked to."""
    reads = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
    # What SQLAlchemy asks of a new connection.
    asked = action == sqlite3.SQLITE_TRANSACTION or (action == sqlite3.SQLITE_PRAGMA and first == "read_uncommitted")
    return sqlite3.SQLITE_OK if action in reads or asked else sqlite3.SQLITE_DENY


def _secret_address(variable: str) -> URL:
    """Returns the address that an environment variable holds; raises errors that do not show it."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    if not variable.isidentifier():
        raise ConfigError(
            "not the name of an environment variable",
            where="data.params.url_env",
            remedy="Put the address into an environment variable, such as DATABASE_URL, and that name here.",
        )
    if not os.environ.get(variable):
        raise DataError(f"the environment variable `{variable}` is not set", remedy=f"export {variable}=ADDRESS")
    try:
        return make_url(os.environ[variable])
    except ArgumentError:
        raise DataError(
            f"the environment variable `{variable}` holds no address of a database",
            remedy="The form is postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE.",
        ) from None  # the chained error may spell out the address
