"""TLS for DICOM, with certificates on both sides: PS3.15 B.12 (BCP 195: RFC 8996, RFC 9325), TLS 1.2 or newer.

A calling AE title is a claim; a certificate is not. Whoever has one of the site's authority is let in, and nobody else.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from ..errors import InputError


class Tls(msgspec.Struct, frozen=True):
    """The files of one side, PEM.

    Attributes:
        certificate: this node's, and those between it and the authority.
        key: its private key, without a password.
        authority: certificates of those who may have signed the other side's.
    """

    certificate: Path
    key: Path
    authority: Path

    def listening(self) -> ssl.SSLContext:
        """For those who call: they must have a certificate.

        Raises:
            InputError: a file cannot be used.
        """
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def calling(self) -> ssl.SSLContext:
        """For those who are called: they must have a certificate, and it must name the host.

        Raises:
            InputError: likewise.
        """
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"--tls-ca {self.authority}: {_why(error)}; give certificates in PEM") from error
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            files = f"--tls-cert {self.certificate}, --tls-key {self.key}"
            raise InputError(f"{files}: {_why(error)}; give a certificate and its key, in PEM") from error
        return context


def _no_password() -> str:
    """In place of OpenSSL's question on the terminal, which a service would wait at for ever."""
    raise InputError("--tls-key: has a password, and a service cannot ask for it; give the key without")


def _why(error: OSError) -> str:
    """Of a file that cannot be read, or of what OpenSSL makes of it."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or "is not usable").replace("_", " ").lower()
    return error.strerror or "cannot be read"
