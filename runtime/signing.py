"""Signed bundles: an Ed25519 signature (RFC 8032) of a bundle's manifest, which lists the sha256 of every other file.

    signatures/KEY.ed25519   64 bytes over the bytes of manifest.json; KEY is the first 16 digits of the sha256 of the
                             public key (DER, SubjectPublicKeyInfo, RFC 8410)

Keys are PEM files, and nothing but OpenSSL is needed to check by hand::

    openssl pkey -pubin -in signing.pub -outform DER | sha256sum
    openssl pkeyutl -verify -pubin -inkey signing.pub -rawin -in manifest.json -sigfile signatures/KEY.ed25519

A bundle may bear signatures of several keys, and a kiosk may trust several (a folder of ``*.pub``), so that an old key
is replaced without a day on which nothing runs. Nothing here uses the network. A signature says who vouches for a
bundle, not that it is the newest of its model: see :mod:`medcompress.runtime.newest`.

Not the ``model-signing`` package: it signs the same hashes, and loads 17 packages with clients of certificate services
(1.7 s and 95 MB; the cryptography package alone 0.1 s and 17 MB).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import SIGNATURES, Bundle, parse_manifest, read_manifest
from .errors import BundleError, InputError, missing_package
from .plain_files import read_plain
from .records import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_FILE = "signing.key"
PUBLIC_FILE = "signing.pub"
_SIGNATURE_BYTES = 64
_MAX_KEY_BYTES = 64 * 1024
_MAX_KEYS = 100


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
    # Made with its mode: there is no moment at which others may read it.
    with os.fdopen(os.open(private_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    public = private.public_key()
    write_whole(public_file, public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    return name_of(public)


def is_encrypted(key: Path) -> bool:
    """Whether a private key needs a passphrase.

    Raises:
        InputError: the file cannot be read.
    """
    return b"ENCRYPTED" in _read_key(key)


def sign_bundle(folder: str | Path, key: Path, passphrase: str = "") -> tuple[Bundle, str]:
    """Sign a bundle whose files are all as its manifest lists them; returns it and the key's name.

    A signature of the same key is replaced, those of other keys stay.

    Raises:
        BundleError: the bundle is damaged.
        InputError: not a private Ed25519 key, or another passphrase.
        MachineError: the cryptography package is not installed.
        OSError: the bundle cannot be written.
    """
    private = _private_key(key, passphrase)
    folder = Path(folder)
    data = read_manifest(folder)
    bundle = parse_manifest(folder, data)
    bundle.check_files()
    place = _place(folder)
    place.mkdir(exist_ok=True)
    name = name_of(private.public_key())
    write_whole(place / f"{name}.ed25519", private.sign(data))
    return bundle, name


def check_signature(folder: Path, manifest: bytes, trust: Path) -> str:
    """The name of the trusted key that signed a bundle's manifest.

    Args:
        folder: of the bundle.
        manifest: the bytes of its manifest, as they are going to be used.
        trust: a public key, or a folder of them (``*.pub``).

    Raises:
        BundleError: not signed, signed with other keys only, or changed since.
        InputError: ``trust`` is no public key.
        MachineError: the cryptography package is not installed.
    """
    keys = read_public_keys(trust)
    from cryptography.exceptions import InvalidSignature

    place, stale = _place(folder), ""
    for name, key in keys.items():
        try:
            key.verify(read_plain(place / f"{name}.ed25519", _SIGNATURE_BYTES), manifest)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BundleError(f"{place}: cannot be read ({error.strerror}); copy the bundle again") from error
        except InvalidSignature:
            stale = name
            continue
        return name
    if stale:
        raise BundleError(
            f"{folder}: its manifest is not the one that was signed with key {stale}; copy the bundle again, or have "
            "it signed again by its maker"
        )
    others = signatures_of(folder)
    signed = f"is signed with {', '.join(others)} only" if others else "is not signed"
    raise BundleError(f"{folder}: {signed}; trusted here: {', '.join(keys)}; sign it with: medcompress sign")


def signatures_of(folder: Path) -> tuple[str, ...]:
    """Names of the keys whose signatures lie in a bundle; whether they hold, a key tells alone."""
    place = folder / SIGNATURES
    if place.is_symlink() or not place.is_dir():
        return ()
    named = sorted(path.stem for path in place.glob("*.ed25519"))
    return tuple(name for name in named if name.isprintable())[:_MAX_KEYS]


def read_public_keys(trust: Path) -> dict[str, Ed25519PublicKey]:
    """Public keys by name, of a file or of a folder of ``*.pub``.

    Raises:
        InputError: there are none, or a file is something else.
        MachineError: the cryptography package is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    files = sorted(trust.glob("*.pub")) if trust.is_dir() else [trust]
    if not 0 < len(files) <= _MAX_KEYS:
        raise InputError(f"{trust}: holds {len(files)} public keys (*.pub), 1 to {_MAX_KEYS} are needed")
    keys: dict[str, Ed25519PublicKey] = {}
    for file in files:
        pem = _read_key(file)
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


def _private_key(file: Path, passphrase: str) -> Ed25519PrivateKey:
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
    return key


def _read_key(file: Path) -> bytes:
    try:
        # A trusted key may be a link: it is the kiosk's own, not the bundle's.
        return read_plain(file.resolve(), _MAX_KEY_BYTES)
    except (OSError, BundleError) as error:
        why = getattr(error, "strerror", None) or "no plain file of a key's size"
        raise InputError(f"{file}: cannot be read as a key ({why}); check the path") from error


def _place(folder: Path) -> Path:
    place = folder / SIGNATURES
    if place.is_symlink():
        raise BundleError(f"{place}: is a link; a bundle holds plain files only, copy it again")
    return place


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package("cryptography", "sign") from error
