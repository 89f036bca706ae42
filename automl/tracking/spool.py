"""What is to be tracked goes to a file first, and from there to the tracker whenever that answers.

    append() ──> events.jsonl ──Mirror──> Tracker
                                  ├──> sent.jsonl       how far it came, and the ids that the tracker gave
                                  └──> rejected.jsonl   what the tracker will never accept, and why

The three files are only ever appended to. A process killed while it sends leaves events that are sent again, which the
tracker's idempotency makes harmless; one killed while it writes leaves a torn line, which the next writer ends and
every reader skips. Without `sent.jsonl` everything is sent again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from automl.errors import AutomlError, RefusedError, StorageError, TrackingError
from automl.tracking.tracker import (
    DatasetUse,
    MetricPoint,
    RejectedError,
    RunKind,
    RunRef,
    RunStart,
    RunState,
    Tracker,
)
from automl.values import Scalar

_log = logging.getLogger(__name__)


# --- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunOpened:
    """A run began."""

    durable: ClassVar[bool] = False
    start: RunStart

    @property
    def key(self) -> str:
        return self.start.key


@dataclass(frozen=True, slots=True)
class Logged:
    """Metrics, params or tags of a run."""

    durable: ClassVar[bool] = False
    key: str
    metrics: tuple[MetricPoint, ...] = ()
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArtifactLogged:
    """A file or folder of a run, read when it is sent.

    Attributes:
        path: Absolute, or relative to the spool's folder.
    """

    durable: ClassVar[bool] = False
    key: str
    path: str
    to: str = ""


@dataclass(frozen=True, slots=True)
class ModelLogged:
    """A finished model folder of a run.

    Attributes:
        folder: Absolute, or relative to the spool's folder.
    """

    durable: ClassVar[bool] = True
    key: str
    folder: str
    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: tuple[MetricPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class RunClosed:
    """A run ended."""

    durable: ClassVar[bool] = True
    key: str
    state: RunState
    ended_ms: int


Event = RunOpened | Logged | ArtifactLogged | ModelLogged | RunClosed

_KINDS = {kind.__name__: kind for kind in (RunOpened, Logged, ArtifactLogged, ModelLogged, RunClosed)}


def to_json(event: Event) -> dict[str, Any]:
    """Returns what `from_json` takes; NaN and infinity are left to `json`, which writes and reads them as words."""
    return {"event": type(event).__name__, **asdict(event)}


def from_json(document: Mapping[str, Any]) -> Event:
    """Returns the event that a document was made from.

    Raises:
        KeyError, TypeError, ValueError: It was not made from one.
    """
    values = dict(document)
    kind = _KINDS[values.pop("event")]
    if kind is RunOpened:
        values["start"] = _start(values["start"])
    if "metrics" in values:
        values["metrics"] = tuple(MetricPoint(**point) for point in values["metrics"])
    if "state" in values:
        values["state"] = RunState(values["state"])
    return kind(**values)


def _start(document: Mapping[str, Any]) -> RunStart:
    datasets = tuple(
        DatasetUse(**{**dataset, "columns": tuple((name, kind) for name, kind in dataset["columns"])})
        for dataset in document["datasets"]
    )
    return RunStart(**{**document, "kind": RunKind(document["kind"]), "datasets": datasets})


# --- the spool -----------------------------------------------------------------------------------------------------


class _Journal:
    """A file of JSON lines that several threads and processes append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """Returns the number of bytes."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError(f"cannot read what is to be tracked: {error}", where=str(self.path)) from error

    def append(self, document: Mapping[str, Any], *, durable: bool = False) -> None:
        """Writes one line, in one call, so that a crash loses that line at most; `durable` waits for the disk."""
        line = json.dumps(document).encode() + b"\n"
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = b"\n" + line
                if os.write(descriptor, line) != len(line):
                    raise OSError("the disk is full")
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot write what is to be tracked: {error}", where=str(self.path)) from error

    def read(self, offset: int = 0) -> Iterator[tuple[Any, int]]:
        """Yields each whole line from a byte offset as (document, offset after it), None for a torn one."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # still being written, or torn by a crash: whoever writes next ends it
                    offset += len(line)
                    try:
                        yield json.loads(line), offset
                    except ValueError:
                        yield None, offset
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"cannot read what is to be tracked: {error}", where=str(self.path)) from error


@dataclass(slots=True)
class SpooledRuns:
    """The runs of a spool, by their keys.

    Attributes:
        known: All that were ever opened.
        open: Those that are open.
        stopped: Those that were closed for somebody to go on with.
        steps: Of those that have not ended, though they may have been stopped: metric -> the last step that was logged.
    """

    known: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    steps: dict[str, dict[str, int]] = field(default_factory=dict)


class Spool:
    """The events of a study and what became of them, in one folder.

    Threads and processes may share a folder; each makes its own Spool.

    Args:
        folder: Made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder cannot be made: {error}", where=str(folder)) from error
        self.folder = folder
        self._events = _Journal(folder / "events.jsonl")
        self._sent = _Journal(folder / "sent.jsonl")
        self._rejected = _Journal(folder / "rejected.jsonl")
        # What is known of sent.jsonl, up to `_known`; other processes may append to it.
        self._reading = threading.Lock()
        self._known = 0
        self._offset = 0
        # Events up to here may have been sent already: what was there before, and whatever anybody began to send.
        self._tried = self._events.size()
        self._runs: dict[str, RunRef] = {}
        self._models: dict[str, str] = {}

    def append(self, event: Event) -> None:
        """Adds an event, on the disk when this returns if it ends something.

        Raises:
            StorageError: The disk is full or the folder cannot be written.
        """
        self._events.append(to_json(event), durable=event.durable)

    def pending(self) -> int:
        """Returns the number of events that are still to be sent."""
        self._catch_up()
        return sum(1 for document, _ in self._events.read(self._offset) if document is not None)

    def rejected(self) -> list[str]:
        """Returns why events were set aside, one sentence each."""
        return [document["reason"] for document, _ in self._rejected.read() if document is not None]

    def run_ref(self, key: str) -> RunRef | None:
        """Returns where the run of a key is, None while the tracker does not have it."""
        self._catch_up()
        return self._runs.get(key)

    def model_uri(self, key: str) -> str | None:
        """Returns the URI of the last model that the run of a key logged, None while the tracker does not have it."""
        self._catch_up()
        return self._models.get(key)

    def send_again(self) -> None:
        """Makes the next Mirror send everything again, to a tracker that has lost or changed something."""
        self._sent.append({"offset": 0}, durable=True)

    def runs(self) -> SpooledRuns:
        """Returns which runs there are, and how far those came that have not ended."""
        runs = SpooledRuns()
        for document, _ in self._events.read():
            match document:
                case {"event": "RunOpened", "start": {"key": str(key)}}:
                    runs.known.add(key)
                    runs.open.add(key)
                    runs.stopped.discard(key)
                case {"event": "Logged", "key": str(key), "metrics": [*points]}:
                    runs.steps.setdefault(key, {}).update({point["name"]: point["step"] for point in points})
                case {"event": "RunClosed", "key": str(key), "state": str(state)}:
                    runs.open.discard(key)
                    if state == RunState.STOPPED:
                        runs.stopped.add(key)
                    else:
                        runs.stopped.discard(key)
                        runs.steps.pop(key, None)
        return runs

    def _catch_up(self) -> None:
        with self._reading:
            for document, offset in self._sent.read(self._known):
                self._known = offset
                match document:
                    case {"offset": int(sent)}:
                        self._offset = sent
                    case {"trying": int(tried)}:
                        self._tried = max(self._tried, tried)
                    case {"key": str(key), "run": {"experiment_id": str(experiment_id), "run_id": str(run_id)}}:
                        self._runs[key] = RunRef(experiment_id, run_id)
                    case {"key": str(key), "model_uri": str(uri)}:
                        self._models[key] = uri

    # --- for the Mirror --------------------------------------------------------------------------------------------

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Holds the right to send, which one Mirror has at a time.

        Raises:
            TrackingError: Another has it.
        """
        with (self.folder / "sending.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrackingError("another process is sending what this study tracked") from None
            yield

    def unsent(self, limit: int) -> tuple[list[Event], int, bool] | None:
        """Returns the next events, None at the end.

        Args:
            limit: Events at most.

        Returns:
            The events, the offset to mark once they are sent, and whether nobody can have sent any of them before.
        """
        self._catch_up()
        events: list[Event] = []
        offset = self._offset
        for document, after in self._events.read(offset):
            offset = after
            if document is not None:
                try:
                    events.append(from_json(document))
                except (KeyError, TypeError, ValueError) as error:
                    self.set_aside(document, f"it is no event: {error!r}")
            if len(events) == limit:
                break
        if offset == self._offset:
            return None
        new = self._offset >= self._tried
        self._sent.append({"trying": offset})
        return events, offset, new

    def mark(self, offset: int) -> None:
        """Records that everything before an offset was sent or set aside."""
        self._sent.append({"offset": offset}, durable=True)

    def keep_run(self, key: str, ref: RunRef) -> None:
        self._sent.append({"key": key, "run": asdict(ref)})

    def keep_model(self, key: str, uri: str) -> None:
        self._sent.append({"key": key, "model_uri": uri})

    def set_aside(self, document: Any, reason: str) -> None:
        """Keeps what will never be accepted, once however often it is sent, so that it does not hold up the rest."""
        entry = {"reason": reason, "document": document}
        # As text, in which NaN equals NaN.
        if not any(json.dumps(known) == json.dumps(entry) for known, _ in self._rejected.read()):
            self._rejected.append(entry, durable=True)


# --- the mirror ----------------------------------------------------------------------------------------------------


class Mirror:
    """Sends a spool to a tracker from a thread of its own.

    Nothing here raises for a tracker that does not answer: `last_error` says what is wrong, the events stay in the
    spool, and sending is tried again with growing pauses.

    Args:
        poll_s: Seconds between two looks into the spool.
        longest_pause_s: Seconds between two tries, at most.
    """

    _BATCH = 500

    def __init__(self, spool: Spool, tracker: Tracker, *, poll_s: float = 1.0, longest_pause_s: float = 30.0) -> None:
        self.last_error: AutomlError | None = None
        self._spool = spool
        self._tracker = tracker
        self._poll_s = poll_s
        self._longest_pause_s = longest_pause_s
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._asked = 0  # rounds that were asked for by flush(), and the last one that was answered
        self._answered = 0
        self._closing = False

    def start(self) -> None:
        """Begins to send; a second call does nothing."""
        if self._thread is None:
            # A daemon: a server that hangs must not keep the program from ending. What it holds up is in the spool.
            self._thread = threading.Thread(target=self._run, name="automl-mirror", daemon=True)
            self._thread.start()

    def flush(self, timeout_s: float) -> int:
        """Returns the number of events still pending after one try to send all of them, or after the timeout."""
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._answered >= asked, timeout_s)
        return self._spool.pending()

    def close(self, timeout_s: float) -> int:
        """Returns what `flush` returns, and sends no more after it."""
        pending = self.flush(timeout_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None and pending == 0:
            self._thread.join(timeout_s)
        return pending

    def run_ref(self, key: str) -> RunRef | None:
        """Returns where the run of a key is, None while the tracker does not have it."""
        return self._spool.run_ref(key)

    def model_uri(self, key: str) -> str | None:
        """Returns the URI of the last model that the run of a key logged, None while the tracker does not have it."""
        return self._spool.model_uri(key)

    def _run(self) -> None:
        failures = 0
        while not self._closing:
            asked = self._asked
            self.last_error = self._send_all()
            failures = failures + 1 if self.last_error else 0
            pause_s = min(self._poll_s * 2**failures, self._longest_pause_s)
            with self._changed:
                self._answered = asked
                self._changed.notify_all()
                self._changed.wait_for(lambda asked=asked: self._closing or self._asked > asked, pause_s)  # type: ignore[misc]

    def _send_all(self) -> AutomlError | None:
        """Returns what kept it from sending everything."""
        try:
            with self._spool.sending():
                while not self._closing and (batch := self._spool.unsent(self._BATCH)):
                    events, offset, new = batch
                    self._send(events, new)
                    self._spool.mark(offset)
        except AutomlError as error:
            return error
        except Exception as error:  # the thread must outlive a bug: what it did not send would be lost without a word
            _log.exception("Sending failed")
            return TrackingError(f"sending failed unexpectedly: {error!r}")
        return None

    def _send(self, events: Sequence[Event], new: bool) -> None:
        """Sends a batch, with the metrics and tags of a run gathered up to where their order matters."""
        gathered: dict[str, list[Logged]] = {}
        for event in events:
            if isinstance(event, Logged) and not event.params:
                gathered.setdefault(event.key, []).append(event)
            else:
                self._send_gathered(gathered.pop(event.key, []))
                self._send_one(event, new)
        for logged in gathered.values():
            self._send_gathered(logged)

    def _send_gathered(self, logged: Sequence[Logged]) -> None:
        if not logged:
            return
        together = replace(
            logged[0],
            metrics=tuple(point for event in logged for point in event.metrics),
            tags={name: value for event in logged for name, value in event.tags.items()},
        )
        try:
            self._deliver(together)
        except RejectedError:
            for event in logged:  # one by one, to set aside no more than what was rejected
                self._send_one(event)

    def _send_one(self, event: Event, new: bool = False) -> None:
        try:
            self._deliver(event, new)
        except (RejectedError, RefusedError) as error:
            self._spool.set_aside(to_json(event), str(error))

    def _deliver(self, event: Event, new: bool = False) -> None:
        match event:
            case RunOpened(start):
                parent = self._run_id(start.parent_key) if start.parent_key is not None else None
                new = new and self._spool.run_ref(start.key) is None  # a study that goes on opens its run again
                self._spool.keep_run(start.key, self._tracker.open_run(start, parent, new=new))
            case Logged(key, metrics, params, tags):
                self._tracker.log(self._run_id(key), metrics=metrics, params=params, tags=tags)
            case ArtifactLogged(key, path, to):
                self._tracker.log_artifact(self._run_id(key), self._spool.folder / path, to)
            case ModelLogged(key, folder, name, params, metrics):
                uri = self._tracker.log_model(
                    self._run_id(key), self._spool.folder / folder, name=name, params=params, metrics=metrics
                )
                self._spool.keep_model(key, uri)
            case RunClosed(key, state, ended_ms):
                self._tracker.close_run(self._run_id(key), state, ended_ms)

    def _run_id(self, key: str) -> str:
        ref = self._spool.run_ref(key)
        if ref is None:
            raise RejectedError(f"the run {key} was never opened")
        return ref.run_id
