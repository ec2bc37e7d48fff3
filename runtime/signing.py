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

from pathlib import Path

from .bundle import SIGNATURES, Bundle, parse_manifest, read_manifest
from .errors import BundleError
from .keys import MAX_KEYS, name_of, read_private_key, read_public_keys
from .plain_files import read_plain
from .records import write_whole

_SIGNATURE_BYTES = 64


def sign_bundle(folder: str | Path, key: Path, passphrase: str = "") -> tuple[Bundle, str]:
    """Sign a bundle whose files are all as its manifest lists them; returns it and the key's name.

    A signature of the same key is replaced, those of other keys stay.

    Raises:
        BundleError: the bundle is damaged.
        InputError: not a private Ed25519 key, or another passphrase.
        MachineError: the cryptography package is not installed.
        OSError: the bundle cannot be written.
    """
    private = read_private_key(key, passphrase)
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
    return tuple(name for name in named if name.isprintable())[:MAX_KEYS]


def _place(folder: Path) -> Path:
    place = folder / SIGNATURES
    if place.is_symlink():
        raise BundleError(f"{place}: is a link; a bundle holds plain files only, copy it again")
    if place.exists() and not place.is_dir():
        raise BundleError(f"{place}: is no folder, and signatures lie in one; copy the bundle again")
    return place
