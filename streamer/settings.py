"""All configuration, and the only place where defaults live.

Enters: a YAML file, STREAMER_... environment variables over it (`STREAMER_KAFKA__BOOTSTRAP_SERVERS`). Leaves: frozen
Settings, or one UsageError line that says what is wrong, where, and what to do.
Must not know: Kafka clients, models.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Stream
from streamer.settings_errors import near, one_line
from streamer.settings_labels import LabelSetSettings
from streamer.settings_parts import Part, Topic

EMBEDDED = "embedded"


class SecretRef(Part):
    """A value kept outside the settings file: the content of a file, or an environment variable."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one(self) -> SecretRef:
        if (self.file is None) == (self.env is None):
            raise ValueError("give either 'file' or 'env'")
        return self

    def read(self) -> str:
        """The secret; raises UsageError naming where it was looked for, never its content."""
        if self.env is not None:
            if self.env not in os.environ:
                raise UsageError(f"environment variable {self.env} is not set; kafka.properties refers to it")
            return os.environ[self.env]
        try:
            return Path(str(self.file)).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"{self.file}: {error.strerror}; kafka.properties refers to it") from None


class KafkaSettings(Part):
    """The cluster and this consumer group. `properties` go to librdkafka as they are (SASL, TLS, ...)."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1, description="host:port,... or 'embedded'")
    group_id: str = Field("streamer", min_length=1)
    properties: dict[str, str | int | float | bool | SecretRef] = Field(default_factory=dict)
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        "earliest", description="where a group without committed offsets starts"
    )
    group_protocol: Literal["classic", "consumer"] = Field("classic", description="'consumer' is KIP-848")
    group_instance_id: str | None = Field(
        None, min_length=1, description="static membership: stable per process, e.g. the pod's name"
    )
    transactional_id: str | None = Field(
        None,
        min_length=1,
        description="exactly_once: stable per process; default: group_id and group_instance_id, else the host's name",
    )
    fetch_memory_mb: int = Field(64, ge=1, le=2048, description="memory for records fetched ahead")
    send_memory_mb: int = Field(64, ge=1, le=2048, description="memory for events not yet acknowledged")

    def client_properties(self) -> dict[str, str | int | float | bool]:
        """`properties` with secrets read; raises UsageError where one cannot be."""
        return {key: v.read() if isinstance(v, SecretRef) else v for key, v in self.properties.items()}


class ModelSettings(Part):
    """Which model: `bundled`, a directory, a Hugging Face id, or `fake` (deterministic, for delivery tests)."""

    name: str = Field("bundled", min_length=1)
    revision: str | None = Field(None, description="of a Hugging Face id: branch, tag or commit")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    facet_mode: Literal["separate", "joint"] = Field(
        "separate", description="GLiClass checkpoints: one row per facet (exact), or all facets in one prompt"
    )
    max_row_tokens: int = Field(1024, ge=64, description="longest row, labels included; less where the model has less")
    service_time_ms: float = Field(0.0, ge=0, description="model 'fake' only: time per record")


class BatchingSettings(Part):
    """Windows of records handed to the engine. `auto` is sized for the device."""

    max_records: int | Literal["auto"] = Field("auto", description="auto: 1024 on an accelerator, 128 on a CPU")
    max_bytes: int = Field(4_000_000, ge=1)
    max_wait_ms: float = Field(20.0, ge=0)
    max_tokens: int | Literal["auto"] = Field("auto", description="of one device batch")

    @field_validator("max_records", "max_tokens")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1")
        return value


class LimitsSettings(Part):
    """What bounds duplicates, memory and shutdown."""

    max_uncommitted_records: int = Field(10_000, ge=1, description="the most a crash can repeat")
    commit_interval_ms: int = Field(100, ge=1, description="exactly_once: a transaction lasts so long")
    drain_timeout_s: float = Field(30.0, gt=0, description="time to finish work at shutdown or rebalance")
    transaction_timeout_s: float = Field(
        10.0, ge=1, le=900, description="exactly_once: the broker aborts a dead process's transaction after this"
    )
    commit_deadline_s: float = Field(
        30.0, gt=0, description="exactly_once: a transaction call that takes longer ends the process"
    )
    max_dead_letter_bytes: int = Field(900_000, ge=0, description="a larger input value is cut in its dead letter")


class HttpSettings(Part):
    """Health and metrics port: /healthz, /readyz, /metrics."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(9464, ge=0, le=65535, description="0: any free port")
    stuck_after_s: float = Field(30.0, gt=0, description="unhealthy when the loop has not gone round for so long")
    engine_stuck_after_s: float = Field(120.0, gt=0, description="unhealthy when a window takes longer")


class LogSettings(Part):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else json")


def _pointer(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError(f"'{value}' is no JSON pointer; it begins with '/', e.g. /{value}")
    return value


class StreamSettings(Part):
    """One input topic and where its events go."""

    topic: Topic
    output: Topic
    dead_letter: Topic
    label_set: str
    format: Literal["json", "text"] = Field("json", description="text: the whole value is the text")
    text: list[Annotated[str, AfterValidator(_pointer)]] = Field(
        default_factory=lambda: ["/text"], min_length=1, description="JSON pointers, joined by line breaks"
    )
    pass_payload: bool = Field(False, description="put the input's JSON into the event")
    pass_headers: list[str] = Field(default_factory=list, description="input headers copied to the output")
    scores: Literal["all", "labels"] = Field("all", description="scores in the event: of all labels, or of those given")
    timestamp: Literal["input", "now"] = Field("input", description="of the output message")
    max_value_bytes: int = Field(1_048_576, ge=1, description="larger inputs go to the dead letters")
    weight: int = Field(1, ge=1, le=1000, description="share of a window while several streams have a backlog")

    def build(self) -> Stream:
        """The frozen Stream that the road uses."""
        return Stream(
            topic=self.topic,
            output=self.output,
            dead_letter=self.dead_letter,
            label_set=self.label_set,
            text=tuple(self.text),
            parse_json=self.format == "json",
            pass_payload=self.pass_payload,
            pass_headers=frozenset(self.pass_headers),
            all_scores=self.scores == "all",
            keep_timestamp=self.timestamp == "input",
            max_value_bytes=self.max_value_bytes,
            weight=self.weight,
        )


class Settings(BaseSettings):
    """The whole settings file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="STREAMER_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    model: ModelSettings = Field(default_factory=ModelSettings)
    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    label_sets: dict[str, LabelSetSettings] = Field(min_length=1)
    streams: list[StreamSettings] = Field(min_length=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment overrides the file

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        inputs = [stream.topic for stream in self.streams]
        for topic, count in Counter(inputs).items():
            if count > 1:
                raise ValueError(f"streams: topic '{topic}' stands twice; one stream per topic")
        for stream in self.streams:
            if stream.label_set not in self.label_sets:
                raise ValueError(
                    f"streams: '{stream.topic}' names the label set '{stream.label_set}', which label_sets lacks"
                    f"{near(stream.label_set, self.label_sets)}"
                )
            targets = {stream.output, stream.dead_letter, *(r.to for r in self.label_sets[stream.label_set].routes)}
            for topic in sorted(targets & set(inputs)):
                raise ValueError(f"streams: '{stream.topic}' writes to '{topic}', which is an input topic: a loop")
        if self.delivery == "exactly_once" and self.kafka.bootstrap_servers == EMBEDDED:
            raise ValueError("delivery: exactly_once needs real transactions, which the embedded broker lacks; "
                             "use at_least_once or a Kafka cluster")  # fmt: skip
        return self

    def build_label_sets(self) -> dict[str, LabelSet]:
        return {name: one.build(name) for name, one in self.label_sets.items()}

    def build_streams(self) -> tuple[Stream, ...]:
        return tuple(stream.build() for stream in self.streams)


def load_settings(path: Path) -> Settings:
    """Read and validate a settings file; raises UsageError with one line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; -c takes a settings file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{where}: not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a mapping with label_sets and streams is needed")
    return build_settings(content, origin=str(path))


def build_settings(content: dict[str, Any], *, origin: str) -> Settings:
    """Validate settings given as a mapping; `origin` names them in the error line."""
    unknown = [key for key in content if not isinstance(key, str)]
    if unknown:
        raise UsageError(f"{origin}: {unknown[0]!r}: keys are text")
    try:
        return Settings(**content)
    except ValidationError as error:
        raise UsageError(f"{origin}: {one_line(error, Settings)}") from None


def build_model_settings(content: dict[str, Any]) -> ModelSettings:
    """Validate model settings given on the command line."""
    try:
        return ModelSettings(**content)
    except ValidationError as error:
        raise UsageError(f"model: {one_line(error, ModelSettings)}") from None
