"""All configuration, and the only place where defaults live.

Enters: a YAML file (or two: label sets may have their own), STREAMER_... environment variables over it
(`STREAMER_KAFKA__BOOTSTRAP_SERVERS`). Leaves: frozen Settings, or one UsageError line that says what is wrong, where,
and what to do.
Must not know: Kafka clients, models.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamer.calibration import CalibrationFile, read_calibration
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Stream
from streamer.settings_env import Overrides
from streamer.settings_errors import first_places, near, one_line
from streamer.settings_files import read_mapping
from streamer.settings_labels import LabelSetSettings
from streamer.settings_page import HttpSettings as HttpSettings
from streamer.settings_page import PageSettings
from streamer.settings_parts import Part, SecretRef, Topic
from streamer.settings_tracing import TracingSettings
from streamer.settings_trust import DriftSettings, ShadowSettings
from streamer.settings_trust import ModelSettings as ModelSettings
from streamer.traces import TRACE_HEADERS

EMBEDDED = "embedded"


class KafkaSettings(Part):
    """The cluster and this consumer group. `properties` go to librdkafka as they are (SASL, TLS, ...)."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1, description="host:port,... or 'embedded'")
    group_id: str = Field("streamer", min_length=1)
    properties: dict[str, str | int | float | bool | SecretRef] = Field(default_factory=dict, repr=False)
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
        named_by = "kafka.properties"
        return {key: v.read(named_by) if isinstance(v, SecretRef) else v for key, v in self.properties.items()}


class BatchingSettings(Part):
    """Windows of records handed to the engine. `auto` is sized for the device."""

    max_records: int | Literal["auto"] = Field("auto", description="auto: 1024 on an accelerator, 128 on a CPU")
    max_bytes: int = Field(4_000_000, ge=1)
    max_wait_ms: float = Field(20.0, ge=0)
    window_ms: float = Field(
        250.0, gt=0, description="several streams: windows take the engine so long, and a new record waits for about 3"
    )
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
        15.0, gt=0, description="exactly_once: after this, whether a transaction was committed is asked anew"
    )
    max_dead_letter_bytes: int = Field(900_000, ge=0, description="a larger input value is cut in its dead letter")


class ReloadSettings(Part):
    """Label sets that change are taken up while running; a change of anything else needs a restart."""

    enabled: bool = True
    interval_s: float = Field(2.0, ge=0.1, description="how often the settings are read again")


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
        json_schema_extra={"oneOf": [{"required": ["label_sets"]}, {"required": ["label_sets_file"]}]},
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    model: ModelSettings = Field(default_factory=ModelSettings)
    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    page: PageSettings = Field(default_factory=PageSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    reload: ReloadSettings = Field(default_factory=ReloadSettings)
    label_sets: dict[str, LabelSetSettings] = Field(default_factory=dict, min_length=1, validate_default=False)
    label_sets_file: Path | None = Field(
        None, description="in place of label_sets: a YAML file that holds them, relative to the settings file"
    )
    streams: list[StreamSettings] = Field(min_length=1)
    drift: DriftSettings | None = Field(None, description="watch for drift; left out: not watched")
    shadow: ShadowSettings | None = Field(None, description="score a share beside the road; left out: none")
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    _calibrations: dict[str, CalibrationFile] = PrivateAttr(default_factory=dict)  # of label sets by name

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
        if not self.label_sets:
            raise ValueError("label_sets: is missing; put label sets here, or name their file in label_sets_file")
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
        self._check_shadow(set(inputs))
        self.page.check(self.http)
        if self.delivery == "exactly_once" and self.kafka.bootstrap_servers == EMBEDDED:
            raise ValueError("delivery: exactly_once needs real transactions, which the embedded broker lacks; "
                             "use at_least_once or a Kafka cluster")  # fmt: skip
        if self.delivery == "exactly_once" and self.kafka.properties.get("isolation.level") == "read_uncommitted":
            raise ValueError("kafka.properties: isolation.level must be read_committed under exactly_once; remove it")
        return self

    def _check_shadow(self, inputs: set[str]) -> None:
        if self.shadow is None:
            return
        written = {topic for one in self.streams for topic in (one.topic, one.output, one.dead_letter)}
        written |= {route.to for label_set in self.label_sets.values() for route in label_set.routes}
        for topic, one in self.shadow.streams.items():
            if topic not in inputs:
                raise ValueError(f"shadow.streams: no stream reads '{topic}'{near(topic, inputs)}")
            if one.label_set not in self.label_sets:
                raise ValueError(
                    f"shadow.streams: '{topic}' names the label set '{one.label_set}', which label_sets lacks"
                    f"{near(one.label_set, self.label_sets)}"
                )
            if one.topic in written:
                raise ValueError(f"shadow.streams: topic '{one.topic}' has another use; shadow events need their own")

    def transactional_id(self) -> str:
        """What exactly_once is known by at the broker; each process needs its own."""
        instance = self.kafka.group_instance_id or socket.gethostname()
        return self.kafka.transactional_id or f"{self.kafka.group_id}-{instance}"

    def build_label_sets(self) -> dict[str, LabelSet]:
        return {name: one.build(name, self._calibrations.get(name)) for name, one in self.label_sets.items()}

    def with_calibrations(self, directory: Path, read: Callable[[Path], bytes]) -> Settings:
        """The same with the calibration files that label sets name, relative to `directory`; raises UsageError."""
        named = {name: one for name, one in self.label_sets.items() if one.calibration is not None}
        out = self.model_copy()
        out._calibrations = {
            name: read_calibration(directory / str(one.calibration), one.build(name), read=read)
            for name, one in named.items()
        }
        return out

    def build_streams(self) -> tuple[Stream, ...]:
        carried = TRACE_HEADERS if self.tracing.carry else frozenset()
        built = [stream.build() for stream in self.streams]
        return tuple(replace(one, pass_headers=one.pass_headers | carried) for one in built)


def load_settings(path: Path, *, read: Callable[[Path], bytes] = Path.read_bytes, calibrated: bool = True) -> Settings:
    """Read and validate a settings file and the files of label sets and calibrations that it names; raises UsageError
    with one line.

    `read` gives the bytes of a file, or raises OSError. Unless `calibrated`, label sets are built as if they named no
    calibration.
    """
    settings = _load(path, read)
    return settings.with_calibrations(path.parent, read) if calibrated else settings


def _load(path: Path, read: Callable[[Path], bytes]) -> Settings:
    content = read_mapping(path, read=read, named_by="-c takes a settings file", needed="with label_sets and streams")
    overrides = Overrides(Settings)
    name = overrides.value("label_sets_file") or content.get("label_sets_file")
    if not isinstance(name, str):
        return _beside(path, _build(content, overrides, origin=str(path), label_sets_origin=None))
    named_by = overrides.of(["label_sets_file"]) or f"label_sets_file of {path}"
    if "label_sets" in content:
        raise UsageError(f"{path}: label_sets stand here, and in the file that {named_by} names; keep one")
    file = path.parent / name
    label_sets = read_mapping(file, read=read, named_by=f"{named_by} names it", needed="of label sets")
    built = _build({**content, "label_sets": label_sets}, overrides, origin=str(path), label_sets_origin=str(file))
    return _beside(path, built)


def _beside(path: Path, settings: Settings) -> Settings:
    """The settings with files that they name found from where they lie themselves."""
    if settings.drift is None or settings.drift.baseline is None:
        return settings
    drift = settings.drift.model_copy(update={"baseline": path.parent / settings.drift.baseline})
    return settings.model_copy(update={"drift": drift})


def build_settings(content: dict[str, Any], *, origin: str) -> Settings:
    """Validate settings given as a mapping, which lies in no directory; `origin` names it in the error line."""
    settings = _build(content, Overrides(Settings), origin=origin, label_sets_origin=None)
    for name, one in settings.label_sets.items():
        if one.calibration is not None:
            raise UsageError(f"{origin}: label_sets.{name}.calibration: only a settings file can name another file")
    return settings


def _build(content: dict[str, Any], overrides: Overrides, *, origin: str, label_sets_origin: str | None) -> Settings:
    try:
        return Settings(**content)
    except ValidationError as error:
        places = first_places(error)
        if variable := next(filter(None, map(overrides.of, places)), None):
            raise UsageError(f"{variable}: {one_line(error, Settings)}") from None
        if label_sets_origin is not None and places[0][:1] == ("label_sets",):
            raise UsageError(f"{label_sets_origin}: {one_line(error, Settings, below=1)}") from None
        # what concerns several places may be due to a variable at any of them
        override = f" (with {', '.join(overrides.names)})" if overrides.names and not places[0] else ""
        raise UsageError(f"{origin}{override}: {one_line(error, Settings)}") from None


def build_model_settings(content: dict[str, Any]) -> ModelSettings:
    """Validate model settings given on the command line."""
    try:
        return ModelSettings(**content)
    except ValidationError as error:
        raise UsageError(f"model: {one_line(error, ModelSettings)}") from None
