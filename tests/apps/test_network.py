"""The address that phones find, the certificate, and the QR code that says both."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
from pathlib import Path

import pytest

from mobilevit_sdk.apps import network
from mobilevit_sdk.apps.qr_code import qr_rows
from mobilevit_sdk.errors import RequestError


class Unconnected(socket.socket):
    """A machine without a network."""

    def connect(self, address):
        raise OSError(101, "Network is unreachable")


class Routed(socket.socket):
    def connect(self, address):
        assert ipaddress.ip_address(address[0]) in ipaddress.ip_network("192.0.2.0/24")

    def getsockname(self):
        return ("192.168.1.5", 1234)


def test_the_address_is_the_one_of_the_default_route(monkeypatch):
    monkeypatch.setattr(socket, "socket", Routed)
    assert network.local_address() == "192.168.1.5"


def test_without_a_network_the_other_ways_are_named(monkeypatch):
    monkeypatch.setattr(socket, "socket", Unconnected)
    with pytest.raises(RequestError, match=r"`host`, or connect the phone by USB and use `adb`"):
        network.local_address()


@pytest.mark.parametrize(
    "host", ["localhost", "0.0.0.0", "::", "fe80::1%eth0", "224.0.0.1", "1.2.3", "", "http://1.2.3.4"]
)
def test_only_one_address_is_listened_on(host):
    with pytest.raises(RequestError, match=r"such as 192\.168\.1\.5"):
        network.listen(host, 0)


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_named():
    with network.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            RequestError, match=f"cannot listen on 127.0.0.1, port {port}: .*give another `host` or `port`"
        ):
            network.listen("127.0.0.1", port)
    with pytest.raises(RequestError, match=r"cannot listen on 192\.0\.2\.77: "):
        network.listen("192.0.2.77", 0)


def test_an_origin_is_written_as_browsers_write_it():
    assert str(network.Origin("https", "192.168.1.5", 4430)) == "https://192.168.1.5:4430"
    assert str(network.Origin("https", "192.168.1.5", 443)) == "https://192.168.1.5"
    assert network.Origin("http", "::1", 80).authority == "[::1]"
    assert network.Origin("http", "::1", 443).authority == "[::1]:443"


@pytest.mark.parametrize("host", ["192.168.1.5", "fd00::5"])
def test_a_certificate_is_for_one_address_and_days_and_its_key_stays_in_memory(host, tmp_path, monkeypatch):
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import ExtendedKeyUsage, IPAddress, SubjectAlternativeName
    from cryptography.x509.oid import ExtendedKeyUsageOID

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def load(self, file, original=ssl.SSLContext.load_cert_chain):
        seen.append((Path(file).stat().st_mode & 0o777, Path(file).parent.stat().st_mode & 0o777))
        original(self, file)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    context = network.make_tls_context(host)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    if os.name == "posix":
        assert seen == [(0o600, 0o700)]
    assert list(tmp_path.iterdir()) == []
    key, certificate = network._make_certificate(host)
    other, _ = network._make_certificate(host)
    assert key.private_numbers() != other.private_numbers()
    assert isinstance(key.curve, ec.SECP256R1)
    now = datetime.datetime.now(datetime.timezone.utc)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == datetime.timedelta(days=2)
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert list(names) == [IPAddress(ipaddress.ip_address(host))]
    usage = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def modules(rows: list[str]) -> list[list[bool]]:
    """The dark modules that half blocks show: between the light ones, which are drawn."""
    halves = {"█": (False, False), "▄": (True, False), "▀": (False, True), " ": (True, True)}
    return [[halves[block][half] for block in row] for row in rows for half in (0, 1)]


def test_the_qr_code_of_the_longest_address_fits_a_small_terminal_with_its_quiet_zone():
    import segno

    address = "https://255.255.255.255:65535/" + "x" * 22 + "/"
    rows = qr_rows(address)
    assert (len(rows), len(rows[0])) == (19, 37)
    shown = modules(rows)
    expected = segno.make_qr(address, error="l")
    inner = [row[4:-4] for row in shown[4 : 4 + len(expected.matrix)]]
    assert inner == [[bool(module) for module in row] for row in expected.matrix]
    outside = [*shown[:4], *shown[4 + len(inner) :], *(row[:4] + row[-4:] for row in shown)]
    assert not any(any(row) for row in outside)
