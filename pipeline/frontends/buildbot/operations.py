"""What operations add to the master: pages for monitors, messages of failures, retention."""

from datetime import timedelta
from typing import Any, Final

from buildbot.configurators.janitor import JanitorConfigurator
from buildbot.reporters.mail import MailNotifier

from pipeline.config import load_config
from pipeline.farm.operations import job_names, required_workers
from pipeline.farm.settings import MasterSettings, secret
from pipeline.frontends.buildbot.gathering import Watched
from pipeline.frontends.buildbot.notices import FailureGenerator, WebhookReporter
from pipeline.frontends.buildbot.pages import OperationsService
from pipeline.model.farm import FarmConfig, MailConfig

CONFIGS: Final = "translation_configs"
JANITOR_HOUR: Final = 5


def operations(settings: MasterSettings, farm: FarmConfig) -> dict[str, Any]:
    """Return what operations add to ``BuildmasterConfig``: ``services`` and ``configurators``.

    Raises:
        ConfigError: a file of ``translation_configs/`` or the webhook's secret is wrong.
    """
    config = load_config(settings.root / CONFIGS)
    watched = Watched(
        jobs=job_names(config),
        required=required_workers(farm),
        alarm_seconds=farm.alarm_seconds,
        stale_days=config.channels.nightly.stale_after_days,
    )
    services: list[Any] = []
    if settings.operations is not None:
        services.append(OperationsService(endpoint=settings.operations, watched=watched))
    if farm.mail is not None:
        services.append(_mail(farm.mail, watched))
    if farm.webhook is not None:
        url = secret(settings, farm.webhook)
        services.append(WebhookReporter(url=url, generators=[FailureGenerator(watched.jobs)]))
    return {"services": services, "configurators": [_retention(farm)]}


def _mail(mail: MailConfig, watched: Watched) -> Any:
    return MailNotifier(
        mail.sender,
        relayhost=mail.server,
        smtpPort=mail.port,
        sendToInterestedUsers=False,
        extraRecipients=list(mail.recipients),
        generators=[FailureGenerator(watched.jobs)],
    )


def _retention(farm: FarmConfig) -> Any:
    """Return what removes old logs once a day; builds, with their results, stay."""
    horizon = timedelta(days=farm.log_days)
    return JanitorConfigurator(logHorizon=horizon, build_data_horizon=horizon, hour=JANITOR_HOUR)
