"""Signatures of models: who has the public key can tell whose model it is, and that it is whole.

A signature is Ed25519 over the bytes of the model's manifest, which holds the hash of every other file; it lies beside
the model, not in it. Keys are PEM files as openssl makes them (`openssl genpkey -algorithm ed25519 -out key.pem`), and
openssl can check it: `openssl pkeyutl -verify -rawin -in manifest.json -sigfile FILE -pubin -inkey public.pem`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from automl import manifest, model_folder
from automl.errors import ConfigError, RefusedError

#: The variable with the passphrase of an encrypted private key.
PASSPHRASE = "AUTOML_SIGNING_PASSPHRASE"  # noqa: S105  the variable's name


def sign(folder: Path, key: Path, output: Path) -> str:
    """Writes the signature of a verified model, 64 bytes, and returns the digest of its manifest.

    Raises:
        ConfigError: The file holds no private key that fits, or `output` exists.
        RefusedError: The folder is not what its manifest says.
    """
    if output.exists():
        raise ConfigError(f"`{output}` exists", where="--output", remedy="Name a file that does not exist yet.")
    digest = model_folder.verify(folder)
    passphrase = os.environ.get(PASSPHRASE)
    private = _load(
        key,
        "--key",
        lambda pem: serialization.load_pem_private_key(pem, passphrase.encode() if passphrase else None),
    )
    if not isinstance(private, Ed25519PrivateKey):
        raise _of_another_kind(key, "--key")
    try:
        output.write_bytes(private.sign((folder / manifest.NAME).read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(output)) from error
    return digest


def check(folder: Path, signature: Path, public_key: Path) -> None:
    """Holds a model against its signature.

    Raises:
        ConfigError: A file cannot be read, or holds no public key that fits.
        RefusedError: The signature is not of this model by this key.
    """
    public = _load(public_key, "--public-key", serialization.load_pem_public_key)
    if not isinstance(public, Ed25519PublicKey):
        raise _of_another_kind(public_key, "--public-key")
    try:
        public.verify(_read(signature, "--signature"), (folder / manifest.NAME).read_bytes())
    except InvalidSignature:
        raise RefusedError(
            "is not the signature of this model by this key",
            where=str(signature),
            remedy="Ask whoever signed it for the model, its signature and the public key.",
        ) from None


def _load(path: Path, flag: str, load: Callable[[bytes], object]) -> object:
    """Returns the key in a PEM file."""
    pem = _read(path, flag)
    try:
        return load(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # no PEM; a passphrase that is missing or too many
        remedy = f"The passphrase of an encrypted key stands in {PASSPHRASE}."
        raise ConfigError(f"`{path}` cannot be read as a key: {error}", where=flag, remedy=remedy) from None


def _of_another_kind(path: Path, flag: str) -> ConfigError:
    return ConfigError(
        f"`{path}` holds a key of another kind",
        where=flag,
        remedy="Make one: openssl genpkey -algorithm ed25519 -out key.pem; "
        "openssl pkey -in key.pem -pubout -out public.pem",
    )


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {error.strerror}", where=flag) from error
