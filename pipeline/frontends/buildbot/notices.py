"""Tells of failed and stale nightlies, by mail and to a webhook."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit, urlunsplit

from buildbot.process.results import EXCEPTION, FAILURE
from buildbot.reporters.base import ReporterBase
from buildbot.reporters.generators.build import BuildStatusGenerator
from buildbot.reporters.message import MessageFormatterBase
from buildbot.reporters.utils import getURLForBuild
from buildbot.util.httpclientservice import HTTPSession
from twisted.internet import task
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.python import log
from twisted.web.client import ResponseFailed

from pipeline.farm.operations import (
    Notice,
    Result,
    RunReport,
    notice,
    run_report,
    stale_notice,
    webhook_body,
)
from pipeline.farm.units import RELEASE, STALE
from pipeline.frontends.buildbot import pacing
from pipeline.frontends.buildbot.deferring import deferred

RESULTS: Final = tuple(Result)
FAILED: Final = (FAILURE, EXCEPTION)
ATTEMPT_SECONDS: Final = 30
NOT_DELIVERED: Final = (
    ConnectError,
    ConnectionClosed,
    ResponseFailed,
    CancelledError,
    DeferredTimeoutError,
    OSError,
)


def report_of(
    master: Any,
    build: Mapping[str, Any],
    properties: Mapping[str, object],
    jobs: Mapping[str, tuple[str, str]],
) -> RunReport | None:
    """Return what is told of a finished build of builder ``release``; None if it is of no run."""
    return run_report(
        properties,
        jobs,
        result=RESULTS[build["results"]],
        at=build["complete_at"],
        url=url_of(master, build),
    )


def url_of(master: Any, build: Mapping[str, Any]) -> str:
    """Return the address of a build's page."""
    return str(getURLForBuild(master, build["builderid"], build["number"]))


def values_of(properties: Mapping[str, tuple[object, str]]) -> dict[str, object]:
    """Return properties as the database has them without who set each."""
    return {name: value for name, (value, _source) in properties.items()}


class NoticeFormatter(MessageFormatterBase):
    """Says what :mod:`pipeline.farm.operations` says of a failure."""

    compare_attrs: ClassVar[Sequence[str]] = ("_jobs",)

    def __init__(self, jobs: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(want_properties=True)
        self._jobs = jobs

    def notice(self, master: Any, build: Mapping[str, Any]) -> Notice | None:
        """Return what is told of a finished build, None if it is nobody's concern."""
        if build["builder"]["name"] == STALE:
            text, url = build["state_string"], url_of(master, build)
            return stale_notice(text, at=build["complete_at"], url=url)
        report = report_of(master, build, values_of(build["properties"]), self._jobs)
        return notice(report) if report is not None else None

    def format_message_for_build(
        self, master: Any, build: Mapping[str, Any], **_options: Any
    ) -> dict[str, Any]:
        """Return the message as reporters take it."""
        found = self.notice(master, build)
        return {
            "body": found.text if found is not None else None,
            "type": "plain",
            "subject": found.subject if found is not None else None,
            "extra_info": {"notice": {"url": found.url}} if found is not None else None,
        }


class FailureGenerator(BuildStatusGenerator):
    """Reports each nightly that failed, and when a nightly has become stale."""

    def __init__(self, jobs: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(
            mode=("failing", "exception"),
            builders=[RELEASE, STALE],
            message_formatter=NoticeFormatter(jobs),
        )

    def _want_previous_build(self) -> bool:
        return True

    def is_message_needed_by_results(self, build: Mapping[str, Any]) -> bool:
        """Tell whether it failed; of builder ``stale`` only the first failure of several."""
        if build["results"] not in FAILED:
            return False
        previous = build["prev_build"] if build["builder"]["name"] == STALE else None
        return previous is None or previous["results"] not in FAILED

    @deferred
    async def generate(self, master: Any, reporter: Any, key: Any, build: Any) -> Any:
        """Report one build, or nothing."""
        report = await super().generate(master, reporter, key, build)
        return report if report is not None and report["body"] is not None else None


class WebhookReporter(ReporterBase):
    """Posts failures as JSON to a URL, which is a secret: it is not logged."""

    name = "webhook"

    def checkConfig(self, url: str, generators: list[Any]) -> None:
        """Accept an address of HTTP or HTTPS."""
        if urlsplit(url).scheme not in ("http", "https"):
            msg = "the webhook's secret is no address of http or https"
            raise ValueError(msg)
        super().checkConfig(generators=generators)

    def reconfigService(self, url: str, generators: list[Any]) -> Any:
        """Take another address."""
        parts = urlsplit(url)
        self._path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self._session = HTTPSession(self.master.httpservice, f"{parts.scheme}://{parts.netloc}")
        return super().reconfigService(generators=generators)

    @deferred
    async def sendMessage(self, reports: list[Mapping[str, Any]]) -> None:
        """Post each report, a few times if it is not taken."""
        for report in reports:
            url = report["extra_info"]["notice"]["url"]
            found = Notice(subject=report["subject"], text=report["body"], url=url)
            await self._post(webhook_body(found).model_dump())

    async def _post(self, body: dict[str, str]) -> None:
        problem = ""
        for pause in pacing.POST_PAUSES:
            await task.deferLater(self.master.reactor, pause)
            try:
                response = await self._session.post(self._path, json=body, timeout=ATTEMPT_SECONDS)
            except NOT_DELIVERED as error:
                problem = type(error).__name__
                continue
            if HTTPStatus.OK <= response.code < HTTPStatus.MULTIPLE_CHOICES:
                return
            problem = f"status {response.code}"
        log.msg(f"webhook: not delivered ({problem}): {body['subject']}")
