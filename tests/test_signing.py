from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from automl import manifest, signing
from automl.errors import ConfigError, RefusedError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="keys are made with openssl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "schema.json").write_text("{}")
    manifest.write(folder)
    return folder


def make_key(place: Path, *how: str) -> tuple[Path, Path]:
    """Returns a private key and its public one, as the documentation says to make them."""
    place.mkdir(exist_ok=True)
    key, public = place / "key.pem", place / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key, *how], check=True)
    unlock = ["-passin", how[-1]] if how else []
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public, *unlock], check=True)
    return key, public


def test_a_signature_is_of_one_model_and_one_key(folder: Path, tmp_path: Path) -> None:
    key, public = make_key(tmp_path / "ours")
    _, others = make_key(tmp_path / "others")
    signature = tmp_path / "model.sig"
    assert signing.sign(folder, key, signature) == manifest.verify(folder)
    signing.check(folder, signature, public)
    with pytest.raises(RefusedError, match="is not the signature of this model by this key"):
        signing.check(folder, signature, others)
    (folder / "schema.json").write_text('{"changed": 1}')
    manifest.write(folder)  # whoever changes a model can write a manifest that fits
    with pytest.raises(RefusedError, match="is not the signature of this model by this key"):
        signing.check(folder, signature, public)


def test_openssl_can_check_it(folder: Path, tmp_path: Path) -> None:
    key, public = make_key(tmp_path / "ours")
    signing.sign(folder, key, tmp_path / "model.sig")
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-in", folder / manifest.NAME, "-pubin", "-inkey", public]
    subprocess.run([*command, "-sigfile", tmp_path / "model.sig"], check=True)


def test_what_was_tampered_with_is_not_signed(folder: Path, tmp_path: Path) -> None:
    key, _ = make_key(tmp_path / "ours")
    (folder / "schema.json").write_text("[]")
    with pytest.raises(RefusedError, match="the file was changed"):
        signing.sign(folder, key, tmp_path / "model.sig")
    assert not (tmp_path / "model.sig").exists()


def test_an_encrypted_key_needs_its_passphrase(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, public = make_key(tmp_path / "ours", "-aes256", "-pass", "pass:correct horse")
    with pytest.raises(ConfigError, match=r"--key: .*cannot be read as a key: .* stands in AUTOML_SIGNING_PASSPHRASE"):
        signing.sign(folder, key, tmp_path / "model.sig")
    monkeypatch.setenv(signing.PASSPHRASE, "correct horse")
    signing.sign(folder, key, tmp_path / "model.sig")
    signing.check(folder, tmp_path / "model.sig", public)


def test_wrong_files_are_told(folder: Path, tmp_path: Path) -> None:
    key, public = make_key(tmp_path / "ours")
    with pytest.raises(ConfigError, match=r"--key: `.*none.pem` cannot be read: No such file"):
        signing.sign(folder, tmp_path / "none.pem", tmp_path / "model.sig")
    with pytest.raises(ConfigError, match=r"--key: `.*public.pem` cannot be read as a key"):
        signing.sign(folder, public, tmp_path / "model.sig")
    with pytest.raises(ConfigError, match=r"--output: `.*key.pem` exists"):
        signing.sign(folder, key, key)
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", rsa], check=True, capture_output=True)
    with pytest.raises(ConfigError, match="a key of another kind"):
        signing.sign(folder, rsa, tmp_path / "model.sig")
