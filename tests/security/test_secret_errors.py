"""Where settings or commands are wrong, what is said names the place and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from streamer.errors import UsageError
from streamer.settings import load_settings
from tests.commands import Command
from tests.security.planted import SECRET, assert_absent

GOOD = """
label_sets: {l: {facets: {f: {labels: [a, b]}}}}
streams: [{topic: in, output: out, dead_letter: dead, label_set: l}]
"""

WRONG = [
    "kafka: SECRET",
    "kafka: {properties: SECRET}",
    "kafka: {properties: [SECRET]}",
    "kafka: {properties: {sasl.password: [SECRET]}}",
    "kafka: {properties: {sasl.password: {value: SECRET}}}",
    "kafka: {properties: {sasl.password: {file: a, env: SECRET}}}",
    "kafka: {properties: {sasl.password: {file: [SECRET]}}}",
    "kafka: {sasl.password: SECRET}",
    "sasl.password: SECRET",
    "kafka: {properties: {sasl.password: *SECRET}}",
    "kafka: {properties: {sasl.password: !SECRET}}",
    "kafka: {properties: {sasl.password: !SECRET!x}}",
    "kafka: {properties: {sasl.password: &SECRET a, b: &SECRET b}}",
    "kafka: {properties: {sasl.password: !!int SECRET}}",
    "kafka: {properties: {sasl.password: !!float SECRET}}",
    'kafka: {properties: {sasl.password: "SECRET\n',
    "kafka: {properties: {sasl.password: @SECRET}}",
    "kafka: {properties: {sasl.password: %SECRET}}",
    "kafka: {properties: {sasl.password: SECRET: SECRET}}",
    "page: {token: SECRET}",
    "page: {token: [SECRET]}",
    "page: SECRET",
    "tracing: {headers: SECRET}",
    "tracing: {headers: {authorization: [SECRET]}}",
    "tracing: {endpoint: 'http://me:SECRET@localhost:4318'}",
]


@contextmanager
def told() -> Iterator[dict[str, str]]:
    seen: dict[str, str] = {}
    with pytest.raises(UsageError) as caught:
        yield seen
    seen["message"] = str(caught.value)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_is_told_without_its_value(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "streamer.yaml"
    path.write_text(GOOD + wrong.replace("SECRET", SECRET), encoding="utf-8")
    with told() as seen:
        load_settings(path)
    assert_absent(SECRET, seen)
    assert seen["message"].startswith(str(path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAMER_KAFKA__PROPERTIES", '{"sasl.password": "SECRET"'),
        ("STREAMER_KAFKA__PROPERTIES", '{"sasl.password": ["SECRET"]}'),
        ("STREAMER_KAFKA__PROPERTIES", "SECRET"),
        ("STREAMER_KAFKA", "SECRET"),
        ("STREAMER_PAGE__TOKEN", "SECRET"),
        ("STREAMER_PAGE", '{"token": "SECRET"}'),
        ("STREAMER_TRACING__HEADERS", "authorization=SECRET"),
    ],
)
def test_a_wrong_variable_is_told_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    path = tmp_path / "streamer.yaml"
    path.write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv(name, value.replace("SECRET", SECRET))
    with told() as seen:
        load_settings(path)
    assert_absent(SECRET, seen)
    assert name in seen["message"]


def test_a_secret_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff" + SECRET.encode())
    path = tmp_path / "streamer.yaml"
    path.write_text(f"{GOOD}kafka: {{properties: {{sasl.password: {{file: {tmp_path / 'password'}}}}}}}")
    with told() as seen:
        load_settings(path).kafka.client_properties()
    assert_absent(SECRET, seen)


def test_settings_shown_as_a_whole_hold_no_property(tmp_path: Path) -> None:
    path = tmp_path / "streamer.yaml"
    path.write_text(f"{GOOD}kafka: {{properties: {{sasl.password: {SECRET}}}}}\ntracing: {{headers: {{a: {SECRET}}}}}")
    assert_absent(SECRET, {"repr": repr(load_settings(path)), "str": str(load_settings(path))})


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "-c", "CONFIG"),
        ("check", "-c", "CONFIG", "--offline"),
        ("run", "-c", "CONFIG"),
        ("produce", "RECORDS", "--topic", "t", "--bootstrap", "127.0.0.1:9", "--property", "sasl.password=@PASSWORD",
         "--property", "security.protocol=SASL_PLAINTEXT", "--property", "sasl.mechanism=NONSENSE"),
        ("classify", "a text", "--labels", "f=a,b", "--model", "somebody/something"),
    ],
    ids=lambda arguments: " ".join(arguments[:4:3]),
)  # fmt: skip
def test_a_command_that_cannot_work_says_so_without_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, arguments: tuple[str, ...]
) -> None:
    """A login that librdkafka itself refuses, in its own words; a hub that is out of reach, in its client's."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PLANTED", SECRET)
    (tmp_path / "PASSWORD").write_text(SECRET, encoding="utf-8")
    (tmp_path / "RECORDS.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    properties = {"security.protocol": "SASL_SSL", "sasl.mechanism": "NONSENSE", "sasl.password": {"env": "PLANTED"},
                  "ssl.key.pem": {"env": "PLANTED"}, "debug": "all"}  # fmt: skip
    config = {**yaml.safe_load(GOOD), "model": {"name": "fake"}, "http": {"enabled": False},
              "kafka": {"bootstrap_servers": "127.0.0.1:9", "properties": properties}}  # fmt: skip
    (tmp_path / "CONFIG").write_text(yaml.safe_dump(config), encoding="utf-8")
    places = {"CONFIG": tmp_path / "CONFIG", "RECORDS": tmp_path / "RECORDS.jsonl"}
    words = [str(places.get(word, word)).replace("@PASSWORD", f"@{tmp_path / 'PASSWORD'}") for word in arguments]
    code, out, err = command(*words)
    assert code == {"check": 1, "check --offline": 0}.get(" ".join(arguments[:4:3]), 2), out + err
    assert_absent(SECRET, {"standard output": out, "standard error": err})
    assert "Traceback" not in err


@pytest.mark.kafka
def test_a_refused_login_is_told_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, kafka_sasl_bootstrap: str
) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    properties = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "nobody",
                  "sasl.password": {"env": "PLANTED"}, "debug": "all"}  # fmt: skip
    config = {**yaml.safe_load(GOOD), "model": {"name": "fake"}, "http": {"enabled": False},
              "log": {"level": "debug"},
              "kafka": {"bootstrap_servers": kafka_sasl_bootstrap, "properties": properties}}  # fmt: skip
    (tmp_path / "streamer.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    code, out, err = command("run", "-c", str(tmp_path / "streamer.yaml"))
    assert code == 2
    assert "refuses the login" in err
    assert_absent(SECRET, {"standard output": out, "standard error": err})
