"""Where a phone finds this machine: its address, a listening socket, and a certificate made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mobilevit_sdk.errors import RequestError

# An address for documentation (RFC 5737) that no route but the default one covers; nothing is sent to it.
_ELSEWHERE = "192.0.2.1"
_DAYS = 2  # that a certificate is valid: from yesterday, for phones whose clocks are wrong, until tomorrow
LOOPBACK = "127.0.0.1"


def local_address() -> str:
    """This machine's address on its local network: the one of its default route. Raises RequestError without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE, 9))
            found: str = probe.getsockname()[0]
        except OSError:
            found = "0.0.0.0"
    if ipaddress.ip_address(found).is_unspecified or ipaddress.ip_address(found).is_loopback:
        raise RequestError(
            "this machine has no network that a phone could be on; join one, give its address as `host`, "
            "or connect the phone by USB and use `adb`"
        )
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on one IP address of this machine; port 0 takes a free one.

    Raises RequestError for what is not such an address, and for a port that is taken or not allowed.
    """
    address = _parse(host)
    where = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    try:
        if os.name == "posix":  # elsewhere it would share the port with another program
            where.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        where.bind((str(address), port))
        where.listen(64)
        where.setblocking(False)
    except OSError as error:
        where.close()
        place = f"{host}, port {port}" if port else host
        raise RequestError(
            f"cannot listen on {place}: {error.strerror or error}; give another `host` or `port`"
        ) from error
    return where


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise RequestError(f"{host!r} is not an IP address; give one of this machine, such as 192.168.1.5") from None
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        raise RequestError(f"{host} is not the address of one network; give one of this machine, such as 192.168.1.5")
    return address


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a server, in the form in which browsers name them."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port, as in the Host header: no port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def origin_of(listening: socket.socket, *, https: bool) -> Origin:
    host, port = listening.getsockname()[:2]
    return Origin("https" if https else "http", host, port)


def make_tls_context(host: str) -> ssl.SSLContext:
    """TLS with a fresh key and a certificate that it signs itself, for this address alone and two days.

    The key is in a file that only this user reads, for as long as OpenSSL takes to read it.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, certificate = _make_certificate(host)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory(prefix="mobilevit-") as scratch:  # readable by this user alone
        file = Path(scratch) / "key-and-certificate.pem"
        file.touch(mode=0o600)
        file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(file)
    return context


def _make_certificate(host: str):  # type: ignore[no-untyped-def] # of an optional package
    """A key for ECDSA on P-256, and its certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mobilevit phone")])
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=_DAYS / 2)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate
