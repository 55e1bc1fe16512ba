"""Addresses that only this machine reaches. Enters: a host to listen on. Leaves: yes or no. Must not know: sockets."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
