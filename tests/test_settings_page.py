"""The page's settings: hidden texts and no token by default, and nothing that leaves texts open to a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.errors import UsageError
from streamer.settings import Settings, build_settings

GOOD_TOKEN = "0123456789abcdef"  # noqa: S105 - of this test alone


def settings(page: dict[str, Any] | None = None, http: dict[str, Any] | None = None) -> Settings:
    content: dict[str, Any] = {
        "label_sets": {"tickets": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
        "page": page or {},
        "http": http or {},
    }
    return build_settings(content, origin="test")


def test_by_default_there_is_a_page_without_texts_on_loopback() -> None:
    one = settings()
    assert (one.page.enabled, one.page.show_text, one.page.read_token()) == (True, False, None)
    assert one.http.host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "streamer.example"])  # noqa: S104
def test_texts_are_not_left_open_to_a_network(host: str) -> None:
    with pytest.raises(UsageError, match=r"page\.show_text: everybody who reaches .+; set page\.token, or http\.host"):
        settings({"show_text": True}, {"host": host})
    assert settings({"show_text": True, "token": {"env": "T"}}, {"host": host}).page.show_text
    assert settings({"show_text": False}, {"host": host}).http.host == host
    assert settings({"show_text": True, "enabled": False}, {"host": host}).page.show_text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_texts_need_no_token(host: str) -> None:
    assert settings({"show_text": True}, {"host": host}).page.token is None


def test_a_token_is_read_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(GOOD_TOKEN + "\n")
    assert settings({"token": {"file": str(tmp_path / "token")}}).page.read_token() == GOOD_TOKEN
    monkeypatch.setenv("PAGE_TOKEN", GOOD_TOKEN)
    one = settings({"token": {"env": "PAGE_TOKEN"}})
    assert one.page.read_token() == GOOD_TOKEN
    assert GOOD_TOKEN not in f"{one} {one.model_dump()}"


@pytest.mark.parametrize(
    ("token", "said"),
    [("tiny-1", "shorter than 16"), ("", "shorter"), ("with a space inside it", "spaces"), ("t\u00f6ken" * 5, "ASCII")],
)
def test_a_token_that_keeps_nobody_out_is_refused(token: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGE_TOKEN", token)
    with pytest.raises(UsageError, match=rf"page\.token: .*{said}") as caught:
        settings({"token": {"env": "PAGE_TOKEN"}}).page.read_token()
    assert not token or token not in str(caught.value)


def test_a_token_that_is_missing_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match=r"^/no/such: .+; page\.token refers to it$"):
        settings({"token": {"file": "/no/such"}}).page.read_token()


def test_a_token_in_the_settings_themselves_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as told:
        settings({"token": GOOD_TOKEN})
    assert str(told.value) == (
        "test: page.token: no secret stands in the settings themselves; write {file: PATH} or {env: NAME}"
    )
