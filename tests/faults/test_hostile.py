"""What somebody else has made is refused before anything of it is executed, and no secret or row leaves its place."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml

from automl import manifest

# --- model folders -----------------------------------------------------------------------------------------------


def _change_a_byte(model: Path) -> None:
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")


def _name_a_loader(model: Path) -> None:
    document = yaml.safe_load((model / "MLmodel").read_text())
    document["flavors"]["python_function"]["loader_module"] = "evil"
    (model / "MLmodel").write_text(yaml.safe_dump(document))


def _bring_code(model: Path) -> None:
    document = yaml.safe_load((model / "MLmodel").read_text())
    document["flavors"]["python_function"]["code"] = "code"
    (model / "MLmodel").write_text(yaml.safe_dump(document))


def _replace_what_was_fitted(model: Path) -> None:
    fitted = next(iter([*model.glob("preprocessing/*.skops"), *model.glob("references/*.skops")]))
    skops.io.dump({"steps": functools.partial(os.system, "touch executed")}, fitted)


class _Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


#: what is wrong -> what does it, whether the manifest is written anew to fit, what is told
FOLDERS: dict[str, tuple[Callable[[Path], object], bool, str]] = {
    "a changed byte": (_change_a_byte, False, "weights.safetensors: the file was changed"),
    "an added file": (lambda model: (model / "extra.json").write_text("{}"), False, "extra.json: the file was added"),
    "a removed file": (lambda model: (model / "schema.json").unlink(), False, "schema.json: the file is missing"),
    "a link": (lambda model: (model / "extra.txt").symlink_to("/etc/passwd"), False, "plain files only, no links"),
    "a manifest that names `../x`": (
        lambda model: (model / manifest.NAME).write_text(json.dumps({"version": 1, "files": {"../x": "0"}})),
        False,
        "which is outside of the folder",
    ),
    "a foreign loader module, with a manifest that fits": (_name_a_loader, True, "names `evil` to load it"),
    "code that comes along, with a manifest that fits": (_bring_code, True, "names `code`, by which code could come"),
    "a Python file, with a manifest that fits": (
        lambda model: (model / "extra.py").write_text("open('executed', 'w')"),
        True,
        "extra.py: a model of ours holds no such file",
    ),
    "a pickle, with a manifest that fits": (
        lambda model: (model / "model.pkl").write_bytes(pickle.dumps(_Exploit())),
        True,
        "model.pkl: a model of ours holds no such file",
    ),
    "a pickle under the name of weights, with a manifest that fits": (
        lambda model: (model / "weights.safetensors").write_bytes(pickle.dumps(_Exploit())),
        True,
        "the model cannot be read: SafetensorError",
    ),
    "an unknown skops type, with a manifest that fits": (_replace_what_was_fitted, True, "holds what is not trusted"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FOLDERS)
def test_model_folders(finished: Any, place: Any, what: str, observed: Callable[[str, str], None]) -> None:
    spoil, rewritten, sentence = FOLDERS[what]
    model = place.path / "model"
    shutil.copytree(finished.path / ".automl/studies/small/model", model)
    place.write_table()
    (place.path / "evil.py").write_text("open('executed', 'w')")
    spoil(model)
    if rewritten:
        (model / manifest.NAME).unlink()
        manifest.write(model)
    for command in (["verify", "model"], ["predict", "model", "table.csv", "-o", "p.csv"]):
        assert sentence in place.quick(*command, code=5).err
    assert not (place.path / "p.csv").exists()
    assert not (place.path / "executed").exists()
    observed(f"a model folder with {what}", f"exit 5 by `verify` and `predict`, nothing of it executed: *{sentence}*")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="keys are made with openssl")
def test_signatures(finished: Any, place: Any, observed: Callable[[str, str], None]) -> None:
    for name in ("ours", "others"):
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{name}.pem"], cwd=place.path, check=True
        )
        public = ["-pubout", "-out", f"{name}-public.pem"]
        subprocess.run(["openssl", "pkey", "-in", f"{name}.pem", *public], cwd=place.path, check=True)
    model = place.path / "model"
    shutil.copytree(finished.path / ".automl/studies/small/model", model)
    place.quick("sign", "model", "--key", "ours.pem", "-o", "model.sig")
    signed = ["verify", "model", "--signature", "model.sig", "--public-key"]
    assert "which the key has signed" in place.quick(*signed, "ours-public.pem").out
    refused = place.quick(*signed, "others-public.pem", code=5).err
    assert "is not the signature of this model by this key" in refused
    architecture = json.loads((model / "architecture.json").read_text())
    (model / "architecture.json").write_text(json.dumps({**architecture, "decision": []}))
    (model / manifest.NAME).unlink()
    manifest.write(model)
    place.quick("verify", "model")  # intact, by a manifest that was written anew
    assert "is not the signature of this model by this key" in place.quick(*signed, "ours-public.pem", code=5).err
    observed(
        "a model that was changed together with its manifest", "exit 5 by `verify` with its signature and a public key"
    )


# --- studies -----------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

#: what is wrong -> the text of bad.yaml, what is told
STUDIES: dict[str, tuple[str, str]] = {
    "a YAML bomb": (BOMB, "describes a document too large"),
    "YAML nested ten thousand deep": ("[" * 10_000 + "]" * 10_000, "describes a document too large or too deep"),
    "a YAML tag that builds an object": ("!!python/object/apply:os.system ['touch executed']", "python/object/apply"),
    "a YAML tag that names a module": ("name: !!python/name:os.system", "python/name"),
    "a path to code where a network is named": (
        "{name: x, data: {source: os.system, params: {}, target: y}}",
        "unknown source `os.system`",
    ),
    "plug-ins that nobody has allowed": (
        "{name: x, data: {source: csv, params: {path: t.csv}, target: y}, plugins: [evil]}",
        "needs the plug-ins `evil`",
    ),
    "a table outside of its folder, by `..`": (
        "{name: x, data: {source: csv, params: {path: ../secret.csv}, target: y}}",
        "`../secret.csv` leads out of the folder",
    ),
    "a table outside of its folder, by a link": (
        "{name: x, data: {source: csv, params: {path: link.csv}, target: y}}",
        "`link.csv` leads out of the folder",
    ),
    "a folder of tables with a link out of it": (
        "{name: x, data: {source: parquet, params: {path: parts}, target: y}}",
        "`parts/1.parquet` leads out of the folder",
    ),
    "a database outside of its folder": (
        "{name: x, data: {source: sql, params: {url: 'sqlite:///../secret.db', query: SELECT 1}, target: y}}",
        "`../secret.db` leads out of the folder",
    ),
    "a search space outside of its folder": (
        "{name: x, data: {source: csv, params: {path: t.csv}, target: y}, search_space: ../secret.yaml}",
        "`../secret.yaml` leads out of the folder",
    ),
    "a password in a database's address": (
        "{name: x, data: {source: sql, params: {url: 'postgresql://me:CANARY@host/db', query: SELECT 1}, target: y}}",
        "Put the address into an environment variable",
    ),
}


@pytest.mark.parametrize("what", STUDIES)
def test_studies(place: Any, what: str, observed: Callable[[str, str], None]) -> None:
    text, sentence = STUDIES[what]
    inside = type(place)(place.path / "inside")
    (inside.path / "parts").mkdir(parents=True)
    for name in ("secret.csv", "secret.db", "secret.yaml", "secret.parquet"):
        (place.path / name).write_text("a,y\n" + "1,2\n" * 20)
    (inside.path / "link.csv").symlink_to(place.path / "secret.csv")
    (inside.path / "parts" / "1.parquet").symlink_to(place.path / "secret.parquet")
    (inside.path / "t.csv").write_text("a,y\n" + "1,2\n3,4\n" * 20)
    (inside.path / "evil.py").write_text("open('executed', 'w')")
    (inside.path / "bad.yaml").write_text(text)
    told = inside.quick("check", "bad.yaml", code=2).err
    assert sentence in told
    assert "CANARY" not in told
    assert not (inside.path / "executed").exists()
    observed(f"a study with {what}", f"exit 2: *{sentence}*")


def test_what_a_person_types_may_lie_anywhere(place: Any) -> None:
    inside = type(place)(place.path / "inside")
    inside.path.mkdir()
    place.write_table()
    (inside.path / "link.csv").symlink_to(place.path / "table.csv")
    for path in ("../table.csv", "link.csv", place.path / "table.csv"):
        assert "nothing is wrong" in inside.quick("check", "--data", path, "--target", "target").out
    place.write_study()
    study = place.path / "small.yaml"
    (inside.path / "full.yaml").write_text(study.read_text().replace("table.csv", str(place.path / "table.csv")))
    shutil.copy(place.path / "space.yaml", inside.path)
    assert "nothing is wrong" in inside.quick("check", "full.yaml").out


# --- secrets and rows --------------------------------------------------------------------------------------------

PLUGIN = '''
import os
from automl.components import register

@register("network")
def leaky(inputs, n_outputs, *, seed: int = 0):
    """Fails with everything that it knows."""
    raise ValueError(f"no connection to {os.environ['DATABASE_URL']} with {os.environ['SOME_API_KEY']}")
'''
#: In an address, in a variable with a telling name, and in the address of the tracking server.
CANARIES = ("canary-in-an-address-4711", "canary-in-a-variable-4712", "canary-of-tracking-4713")
ROW = "zyxomma quillfeather brontide"  # no hash holds such words


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yields every file below a folder; what is inside of zip files, too."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    for name in archive.namelist():
                        yield path / name, archive.read(name)


@pytest.mark.slow
def test_no_secret_and_no_row_leaves_its_place(place: Any, observed: Callable[[str, str], None]) -> None:
    rng = np.random.default_rng(0)
    words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(239)] + [ROW]
    number = rng.normal(size=240)
    frame = pd.DataFrame({"number": number, "remark": texts, "target": np.where(number > 0, "=1+1", "@SUM(A1)")})
    frame.to_csv(place.path / "table.csv", index=False)
    place.write_study(budget={"trials": 6}, references=True, seed=3)
    space = yaml.safe_load((place.path / "space.yaml").read_text())
    leaky = {"name": "leaky", "params": {"seed": {"type": "int", "low": 0, "high": 10_000}}}
    space["network"] = [*space["network"], leaky]
    (place.path / "space.yaml").write_text(yaml.safe_dump(space))
    (place.path / "leaky_plugin.py").write_text(PLUGIN)
    variables = {
        "DATABASE_URL": f"postgresql://me:{CANARIES[0]}@127.0.0.1/db",
        "SOME_API_KEY": CANARIES[1],
        "PYTHONPATH": str(place.path),
    }
    run = place.automl("run", "small.yaml", "--plugin", "leaky_plugin", "--verbose", **variables)
    failed = [trial for trial in place.trials() if trial.user_attrs["automl:result"]["reason"] == "error"]
    assert failed, "no trial has told what it knows"
    assert "no connection to postgresql://me:***@127.0.0.1/db with ***" in run.err
    tracking = f"http://me:{CANARIES[2]}@127.0.0.1:9"
    down = place.automl("sync", "--tracking-uri", tracking, code=None, **variables)
    predicted = place.automl("predict", "small", "table.csv", "-o", "p.csv", "--plugin", "leaky_plugin", **variables)
    said = "".join(ended.out + ended.err for ended in (run, down, predicted))
    for canary in CANARIES:
        assert canary not in said
        shown = [str(path) for path, content in _contents(place.path) if canary.encode() in content]
        assert not shown, f"{canary} stands in {shown}"
    observed(
        "a failing plug-in that tells passwords of addresses and of variables",
        "neither the terminal, nor a log, tag, artifact, state or database of the study has them",
    )
    own = {place.path / "table.csv"} | {*(place.path / ".automl/studies/small/data").rglob("*")}
    for word in ROW.split():
        assert word not in said
        shown = [str(path) for path, content in _contents(place.path) if word.encode() in content and path not in own]
        assert not shown, f"a word of a row stands in {shown}"
    observed(
        "a row with a text like no other",
        "its words stand in the table and in the study's own copy of it, and nowhere in MLflow, the model or a report",
    )
    assert set(pd.read_csv(place.path / "p.csv")["prediction"]) <= {"'=1+1", "'@SUM(A1)"}
    observed("classes that begin like a formula", "in csv they get a `'` before, so that no spreadsheet computes them")


# --- pages -------------------------------------------------------------------------------------------------------

#: Run in a network namespace of its own: brings its loopback up, serves on every address, and asks for pages.
ASKING = """
import base64, fcntl, json, os, signal, socket, struct, subprocess, sys, time, urllib.error, urllib.request

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 1 | 64))
server = subprocess.Popen([sys.executable, "-m", "automl", "ui", "--host", "0.0.0.0", "--port", "5077"])

def ask(path, password=None, host="127.0.0.1:5077"):
    request = urllib.request.Request(f"http://127.0.0.1:5077{path}", headers={"Host": host})
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code

for _ in range(300):
    try:
        ask("/health")
        break
    except OSError:
        time.sleep(0.3)
path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
password = os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
found = {"without": ask(path), "wrong": ask(path, "wrong"), "default": ask(path, "password1234")}
print(json.dumps({**found, "right": ask(path, password), "rebound": ask(path, password, "10.example.org")}))
server.send_signal(signal.SIGTERM)
server.wait(30)
"""


@pytest.mark.slow
def test_pages_for_others_ask_for_a_password(finished: Any, place: Any, observed: Callable[[str, str], None]) -> None:
    if os.getuid() != 0 or subprocess.run(["unshare", "--net", "true"]).returncode:
        pytest.skip("this user may not make a network namespace")
    shutil.copy(finished.path / "mlflow.db", place.path)
    (place.path / "ask.py").write_text(ASKING)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "ask.py"],
        cwd=place.path,
        env={**os.environ, "MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse battery"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"without": 401, "wrong": 401, "default": 401, "right": 200, "rebound": 403}
    observed(
        "pages on all addresses of the machine",
        "`automl ui --host 0.0.0.0` is refused (exit 5) without a password of 12 characters; with one, MLflow answers "
        "401 without it and with its well-known default, and 403 to a foreign name that was rebound to the machine",
    )
