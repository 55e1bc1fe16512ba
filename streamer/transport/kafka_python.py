"""Settings of librdkafka as settings of the library kafka-python: the same brokers, TLS and login.

Enters: properties as librdkafka names them. Leaves: keyword arguments for a client of kafka-python, or a UsageError
that names what cannot be carried over. Must not know: what the client is for.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamer.errors import UsageError
from streamer.transport.kafka_client import Properties

_MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_CARRIED = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.key.location",
        "ssl.key.pem",
        "ssl.key.password",
        "ssl.crl.location",
        "ssl.cipher.suites",
        "ssl.endpoint.identification.algorithm",
    }
)


def client_settings(bootstrap_servers: str, properties: Properties, timeout_s: float) -> dict[str, Any]:
    """Keyword arguments for a client of kafka-python that reaches the cluster as librdkafka does.

    `timeout_s` bounds the connection and every request. Raises UsageError for a login or a TLS property that cannot
    be carried over, and for TLS files that cannot be read; no secret stands in it.
    """
    milliseconds = int(timeout_s * 1000)
    protocol = str(properties.get("security.protocol", "plaintext")).upper()
    settings: dict[str, Any] = {
        # librdkafka takes PROTOCOL://host:port, and uses the host and port
        "bootstrap_servers": [one.strip().rpartition("://")[2] for one in bootstrap_servers.split(",")],
        "security_protocol": protocol,
        "request_timeout_ms": milliseconds,
        "bootstrap_timeout_ms": milliseconds,
    }
    for name in properties:
        used = (name.startswith("ssl.") and protocol.endswith("SSL")) or (
            name.startswith("sasl.") and protocol.startswith("SASL")
        )
        if used and name not in _CARRIED:
            raise UsageError(f"the library kafka-python does not know '{name}' of kafka.properties")
    if protocol.startswith("SASL"):
        settings |= _login(properties)
    if protocol.endswith("SSL"):
        settings["ssl_context"] = _tls(properties)
    return settings


def _login(properties: Properties) -> dict[str, Any]:
    mechanism = str(properties.get("sasl.mechanism", properties.get("sasl.mechanisms", "GSSAPI")))
    if mechanism not in _MECHANISMS:
        raise UsageError(f"the login {mechanism} is not one that streamer can make with the library kafka-python")
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": properties.get("sasl.username"),
        "sasl_plain_password": properties.get("sasl.password"),
    }


def _tls(properties: Properties) -> ssl.SSLContext:
    try:
        return _context(properties)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = [name for name in sorted(properties) if name.startswith("ssl.")]
        why = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"TLS cannot be set up from {', '.join(named)} of kafka.properties: {why}") from None


def _context(properties: Properties) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if str(properties.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        context.check_hostname = False
    if str(properties.get("enable.ssl.certificate.verification", "true")).lower() in ("false", "0", "f"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    location, pem = properties.get("ssl.ca.location"), properties.get("ssl.ca.pem")
    if pem:
        context.load_verify_locations(cadata=str(pem))
    elif location and location != "probe":
        _trust(context, str(location))
    else:
        context.load_default_certs()
    if "ssl.crl.location" in properties:
        context.load_verify_locations(str(properties["ssl.crl.location"]))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if "ssl.cipher.suites" in properties:
        context.set_ciphers(str(properties["ssl.cipher.suites"]))
    with _file(properties, "ssl.certificate") as certificate, _file(properties, "ssl.key") as key:
        if certificate is not None:
            # text even when it is empty: with None the standard library asks for a password on the terminal
            context.load_cert_chain(certificate, key, str(properties.get("ssl.key.password", "")))
    return context


def _trust(context: ssl.SSLContext, location: str) -> None:
    """Certificates of a file, or of a directory made by c_rehash."""
    try:
        context.load_verify_locations(cafile=location)
    except IsADirectoryError:
        context.load_verify_locations(capath=location)


@contextmanager
def _file(properties: Properties, name: str) -> Iterator[str | None]:
    """The path of a PEM file; one given as text lies, for its owner only, in a file as long as the context lasts,
    because the standard library reads certificates from files alone."""
    text = properties.get(f"{name}.pem")
    if not text:
        location = properties.get(f"{name}.location")
        yield None if location is None else str(location)
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".pem") as kept:
        kept.write(str(text))
        kept.flush()
        yield kept.name
