"""Properties of librdkafka as settings of kafka-python: the same address, login and TLS, or a clear limit."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from streamer.errors import UsageError
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_python import client_settings


def context_of(properties: Properties) -> ssl.SSLContext:
    made = client_settings("h:1", {"security.protocol": "SSL", **properties}, 1.0)["ssl_context"]
    assert isinstance(made, ssl.SSLContext)
    return made


def test_address_and_times_are_carried_over() -> None:
    assert client_settings("SASL_SSL://a:1, b:2", {"client.id": "x"}, 1.5) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
        "request_timeout_ms": 1500,
        "bootstrap_timeout_ms": 1500,
    }


@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_login_is_carried_over(name: str, mechanism: str) -> None:
    properties = {"security.protocol": "sasl_plaintext", name: mechanism, "sasl.username": "u", "sasl.password": "p"}
    made = client_settings("h:1", properties, 1.0)
    assert made["security_protocol"] == "SASL_PLAINTEXT"
    assert (made["sasl_mechanism"], made["sasl_plain_username"], made["sasl_plain_password"]) == (mechanism, "u", "p")


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"security.protocol": "SASL_SSL"}, "the login GSSAPI is not one"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "the login OAUTHBEARER is not one"),
        ({"security.protocol": "SASL_SSL", "sasl.oauthbearer.config": "hunter2"}, "'sasl.oauthbearer.config'"),
        ({"security.protocol": "SSL", "ssl.keystore.location": "/k.p12"}, "does not know 'ssl.keystore.location'"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/none"}, "from ssl.ca.location of kafka.properties: "),
        ({"security.protocol": "SSL", "ssl.ca.pem": "hunter2"}, "from ssl.ca.pem of kafka.properties: "),
    ],
)
def test_what_cannot_be_carried_over_is_said_without_secrets(properties: Properties, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        client_settings("h:1", properties, 1.0)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tls_properties_of_a_plain_connection_do_not_matter() -> None:
    assert "ssl_context" not in client_settings("h:1", {"ssl.keystore.location": "/k.p12"}, 1.0)


def test_certificates_and_names_are_verified_unless_told_otherwise() -> None:
    usual = context_of({})
    assert (usual.verify_mode, usual.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert usual.minimum_version >= ssl.TLSVersion.TLSv1_2
    no_name = context_of({"ssl.endpoint.identification.algorithm": "none"})
    assert (no_name.verify_mode, no_name.check_hostname) == (ssl.CERT_REQUIRED, False)
    nothing = context_of({"enable.ssl.certificate.verification": False})
    assert (nothing.verify_mode, nothing.check_hostname) == (ssl.CERT_NONE, False)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that signs itself, with its key, plain and behind the password `sesame`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    folder = tmp_path_factory.mktemp("keys")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    for command in (
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", *subject],
        ["rsa", "-in", "key.pem", "-aes256", "-passout", "pass:sesame", "-out", "locked.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(keys: Path) -> Iterator[int]:
    """A server on loopback that wants a certificate from its client; its port."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "cert.pem", keys / "key.pem")
    context.load_verify_locations(keys / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            taken, _ = plain.accept()
            with taken:
                try:
                    with context.wrap_socket(taken, server_side=True) as secure:
                        secure.sendall(b"hello")
                except OSError:
                    return

        worker = Thread(target=answer)
        worker.start()
        yield plain.getsockname()[1]
        worker.join(10)


def greeting(context: ssl.SSLContext, port: int) -> bytes:

    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.recv(5)


@pytest.mark.parametrize("given", ["files", "texts", "locked"])
def test_a_handshake_with_certificates_of_both_sides(keys: Path, server: int, given: str) -> None:
    files = {"ssl.ca": "cert.pem", "ssl.certificate": "cert.pem", "ssl.key": "key.pem"}
    properties: dict[str, str | int | float | bool] = {}
    for name, file in files.items():
        if given == "texts":
            properties[f"{name}.pem"] = (keys / file).read_text()
        else:
            properties[f"{name}.location"] = str(keys / file)
    if given == "locked":
        properties |= {"ssl.key.location": str(keys / "locked.pem"), "ssl.key.password": "sesame"}
    assert greeting(context_of(properties), server) == b"hello"


def test_a_certificate_of_nobody_trusted_is_refused(server: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        greeting(context_of({}), server)


def test_a_wrong_password_of_a_key_is_told(keys: Path) -> None:
    properties = {
        "ssl.certificate.location": str(keys / "cert.pem"),
        "ssl.key.location": str(keys / "locked.pem"),
        "ssl.key.password": "hunter2",
    }
    with pytest.raises(UsageError, match="TLS cannot be set up from ssl") as caught:
        context_of(properties)
    assert "hunter2" not in str(caught.value)


def test_a_locked_key_without_password_never_asks_on_the_terminal(keys: Path) -> None:
    properties = {
        "ssl.certificate.location": str(keys / "cert.pem"),
        "ssl.key.location": str(keys / "locked.pem"),
    }
    with pytest.raises(UsageError, match="TLS cannot be set up from ssl"):
        context_of(properties)
