"""Keys for signing bundles: Ed25519 (RFC 8032) in PEM files, and who may touch them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BundleError, InputError, missing_package
from .plain_files import read_plain
from .records import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_FILE = "signing.key"
PUBLIC_FILE = "signing.pub"
_MAX_KEY_BYTES = 64 * 1024
MAX_KEYS = 100


def make_keys(folder: Path, passphrase: str = "") -> str:
    """Write ``signing.key`` (readable by its owner only) and ``signing.pub`` to a folder; returns the key's name.

    Args:
        folder: made where it is missing.
        passphrase: encrypts the private key; empty leaves it as it is.

    Raises:
        InputError: there are keys already: they are never replaced.
        MachineError: the cryptography package is not installed.
        OSError: the folder cannot be written.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private_file, public_file = folder / PRIVATE_FILE, folder / PUBLIC_FILE
    if private_file.exists() or public_file.exists():
        raise InputError(f"{folder}: holds keys already, which are never replaced; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    secret = form.BestAvailableEncryption(passphrase.encode()) if passphrase else form.NoEncryption()
    pem = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, secret)
    public = private.public_key()
    # Made with its mode: there is no moment at which others may read it.
    opened = os.open(private_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        write_whole(public_file, public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    except BaseException:
        private_file.unlink(missing_ok=True)  # half a pair is none, and would stand in the way of the next
        raise
    return name_of(public)


def is_encrypted(key: Path) -> bool:
    """Whether a private key needs a passphrase.

    Raises:
        InputError: the file cannot be read.
    """
    return b"ENCRYPTED" in _read_key(key)


def read_public_keys(trust: Path) -> dict[str, Ed25519PublicKey]:
    """Public keys by name, of a file or of a folder of ``*.pub``.

    Raises:
        InputError: there are none, a file is something else, or anybody may write it.
        MachineError: the cryptography package is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    files = sorted(trust.glob("*.pub")) if trust.is_dir() else [trust]
    if not 0 < len(files) <= MAX_KEYS:
        raise InputError(f"{trust}: holds {len(files)} public keys (*.pub), 1 to {MAX_KEYS} are needed")
    _refuse_open_to_all(trust)
    keys: dict[str, Ed25519PublicKey] = {}
    for file in files:
        pem = _read_key(file)
        _refuse_open_to_all(file)
        if b"PRIVATE KEY" in pem:
            raise InputError(f"{file}: is a private key, which belongs to the signer alone; give the .pub beside it")
        try:
            key = load_pem_public_key(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputError(f"{file}: is no public key; give the {PUBLIC_FILE} of medcompress keys") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InputError(f"{file}: is not an Ed25519 key; give the {PUBLIC_FILE} of medcompress keys")
        keys[name_of(key)] = key
    return keys


def name_of(key: Ed25519PublicKey) -> str:
    """What a key is called: the first 16 digits of the sha256 of its DER form."""
    from cryptography.hazmat.primitives import serialization as form

    der = key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def read_private_key(file: Path, passphrase: str) -> Ed25519PrivateKey:
    """A private key, decrypted.

    Raises:
        InputError: it is none, its passphrase is another, or others may read it.
        MachineError: the cryptography package is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read_key(file)
    encrypted = b"ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise InputError(f"{file}: is encrypted; give its passphrase in MEDCOMPRESS_PASSPHRASE")
    try:
        key = load_pem_private_key(pem, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "its passphrase is another" if encrypted else f"is no private key; give {PRIVATE_FILE}"
        raise InputError(f"{file}: {why}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{file}: is not an Ed25519 key; make one with: medcompress keys")
    if not encrypted and _mode(file) & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"{file}: is a private key that others may read or write; chmod 600 it, or make a new pair")
    return key


def _refuse_open_to_all(place: Path) -> None:
    # Whoever writes there decides which bundles are trusted.
    if _mode(place) & stat.S_IWOTH:
        raise InputError(f"{place}: may be written by anybody, so its keys are no one's word; chmod o-w it")


def _mode(place: Path) -> int:
    """Its permissions; 0 where the system keeps them in another way."""
    try:
        return place.stat().st_mode if os.name == "posix" else 0
    except OSError as error:
        raise InputError(f"{place}: cannot be read as a key ({error.strerror}); check the path") from error


def _read_key(file: Path) -> bytes:
    try:
        # A trusted key may be a link: it is the kiosk's own, not the bundle's.
        return read_plain(file.resolve(), _MAX_KEY_BYTES)
    except (OSError, BundleError) as error:
        why = getattr(error, "strerror", None) or "no plain file of a key's size"
        raise InputError(f"{file}: cannot be read as a key ({why}); check the path") from error


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package("cryptography", "sign") from error
