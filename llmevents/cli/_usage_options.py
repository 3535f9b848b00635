"""The options that say which calls a command is about."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmevents.cli._usage_store import NO_LEDGER, Found, answering, find_store


if TYPE_CHECKING:
    from llmevents.ledger._query import Filter

PANEL = "Which calls"
WHERE = "Which ledger"


class Status(str, Enum):
    """How a call can have ended."""

    success = "success"
    error = "error"
    timeout = "timeout"
    cancelled = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was given on the command line about store, calls and form.

    Attributes:
        now: When the command began.
    """

    store: str | None = None
    config: Path | None = None
    days: float | None = None
    since: str | None = None
    until: str | None = None
    user: str | None = None
    session: str | None = None
    source: str | None = None
    organization: str | None = None
    task: str | None = None
    model: str | None = None
    provider: str | None = None
    operation: str | None = None
    use_case: str | None = None
    event: str | None = None
    status: Status | None = None
    as_json: bool = False
    now: datetime

    def found(self, missing: str = NO_LEDGER) -> Found:
        """Return the store that is meant, or end with what to do if there is none."""
        return find_store(self.store, self.config, missing)

    @property
    def texts(self) -> dict[str, str]:
        """What is given that a call must state, by the name of the option."""
        given = {option: getattr(self, option) for option in MATCHED}
        if self.status is not None:
            given["status"] = self.status.value
        return {option: text for option, text in given.items() if text is not None}

    def where(self, **others: Any) -> Filter:  # noqa: ANN401  # of several types
        """Return the filter; *others* replace what was given.

        Raises:
            typer.BadParameter: What was given does not fit together.
        """
        from llmevents._errors import OptionError
        from llmevents.ledger._query import Filter

        window = {
            "since": self._since(),
            "until": moment_of(self.until, self.now, "--until"),
        }
        try:
            found = Filter(**{**self._checked(), **window, **others})
        except OptionError as error:
            hint = f"--{error.option.replace('_', '-')}"
            raise typer.BadParameter(str(error), param_hint=hint) from error
        if found.since and found.until and found.since >= found.until:
            msg = f"expected a moment after {found.since:%Y-%m-%d %H:%M:%S} UTC"
            raise typer.BadParameter(msg, param_hint="--until")
        return found

    def _since(self) -> datetime | None:
        if self.days is None:
            return moment_of(self.since, self.now, "--since")
        if self.since is not None:
            msg = "give one of --days and --since, not both"
            raise typer.BadParameter(msg)
        try:
            return self.now - timedelta(days=self.days)
        except (OverflowError, ValueError) as error:
            msg = f"{self.days:g} days ago there was no calendar"
            raise typer.BadParameter(msg, param_hint="--days") from error

    def _checked(self) -> dict[str, str]:
        from llmevents.ledger._schema import EVENTS

        texts = self.texts
        event = texts.get("event")
        known = sorted({name.rpartition(".")[0] for name in EVENTS})
        if event is not None and event not in known:
            msg = f"expected {', '.join(known)}, got {event!r}"
            raise typer.BadParameter(msg, param_hint="--event")
        return texts


def moment_of(text: str | None, now: datetime, hint: str) -> datetime | None:
    """Return the moment that an option says.

    Raises:
        typer.BadParameter: It says none.
    """
    from llmevents.ledger._dates import DateError, moment

    if text is None:
        return None
    try:
        return moment(text, now)
    except DateError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error


def utc_now() -> datetime:
    """Return what time it is."""
    return datetime.now(timezone.utc)


def _text(
    help_text: str,
    *names: str,
    panel: str = PANEL,
    metavar: str = "TEXT",
) -> Any:  # noqa: ANN401  # an annotation
    return Annotated[
        str | None,
        typer.Option(*names, help=help_text, rich_help_panel=panel, metavar=metavar),
    ]


MATCHED: dict[str, str] = {
    "user": "Calls for this user_id.",
    "session": "Calls of this session_id.",
    "source": "Calls for this source_id (a document, say).",
    "organization": "Calls for this organization_id.",
    "task": "Calls of this task_id.",
    "model": "Calls that asked for this model.",
    "provider": "Calls to this provider.",
    "operation": "Calls of this operation: chat, embeddings, ...",
    "use_case": "Calls for this use case of yours.",
    "event": "Calls of this event: llm.chat, llm.embedding, ...; llm.task means tasks.",
}
"""Option -> its help."""

_STORE: dict[str, Any] = {
    "store": _text(
        "sqlite:///usage.db, postgresql://user@host/name, or a path such as "
        "usage.jsonl. Default: the ledger that is configured.",
        panel=WHERE,
        metavar="URL|PATH",
    ),
    "config": Annotated[
        Path | None,
        typer.Option(
            help="The file of settings to read, instead of the one that is found.",
            rich_help_panel=WHERE,
        ),
    ],
}

_PERIOD: dict[str, Any] = {
    "days": Annotated[
        float | None,
        typer.Option(
            min=0, help="Calls of the last N days.", rich_help_panel=PANEL, metavar="N"
        ),
    ],
    "since": _text(
        "Calls that began then or later: 7d, 24h, yesterday, 2026-11-01 (UTC).",
        metavar="MOMENT",
    ),
    "until": _text("Calls that began before: likewise.", metavar="MOMENT"),
}

_CALLS: dict[str, Any] = {
    **_PERIOD,
    **{option: _text(text) for option, text in MATCHED.items()},
    "status": Annotated[
        Status | None,
        typer.Option(help="Calls that ended so.", rich_help_panel=PANEL),
    ],
}

_FORM: dict[str, Any] = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
}


def selects(
    command: Callable[..., None], *, calls: bool = True, form: bool = True
) -> Callable[..., None]:
    """Return a command with the options that make a `Selection`, its first argument.

    Args:
        command: Its other parameters come first, with their annotations.
        calls: Whether it is about some of the calls.
        form: Whether it can print JSON.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    common = {**(_CALLS if calls else {}), **_STORE, **(_FORM if form else {})}

    def selecting(**values: Any) -> None:  # noqa: ANN401  # of the options
        given = {option: values.pop(option) for option in common}
        with answering():
            command(Selection(now=utc_now(), **given), **values)

    options = [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotation,
            default=False if option == "as_json" else None,
        )
        for option, annotation in common.items()
    ]
    parameters = [*own, *options]
    selecting.__name__ = command.__name__
    selecting.__doc__ = command.__doc__
    selecting.__annotations__ = {one.name: one.annotation for one in parameters}
    signature = inspect.Signature(parameters)
    selecting.__signature__ = signature  # type: ignore[attr-defined]  # typer reads it
    return selecting
