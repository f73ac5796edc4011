"""`nexus monitor`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.commands.numbers import NotNegative
from deploy.commands.parsing import OptionalPath, parse, several
from deploy.commands.waiting import directory_of


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """Serve a page that shows runs while they learn, and steers them."""

    logdirs: Annotated[Positional[tuple[Path, ...]], several("LOGDIR")]
    """Run directories, names of launched runs, or folders above runs; new runs appear by themselves."""
    baselines: Annotated[tuple[Path, ...], arg(metavar="FILE [...]", help_behavior_hint="(optional)")] = ()
    """Published curves to compare with: JSON lists (.json or .json.gz)."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs a token, which the page asks for."""
    port: NotNegative = 6060
    """Port to listen on; 0 takes any free one."""
    token_file: OptionalPath = None
    """A file with the token, readable by its owner alone; it is made if it does not exist. Without it, a token for
    another --host is made and kept in ~/.local/state/nexus/monitor-token."""
    webhook_file: OptionalPath = None
    """A file with the URL that alerts are posted to, as JSON with a field text."""


def run(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    given = parse(Monitor, arguments, prog="nexus monitor", example="nexus monitor runs")
    from deploy.monitor.access import is_loopback, make_token, token_file
    from deploy.monitor.alerts import Alerts, read_webhook, webhook
    from deploy.monitor.runs import Runs
    from deploy.monitor.serve import listen, serve
    from deploy.monitor.server import application
    from deploy.monitor.views import Views, folders_of
    from deploy.reports.curves import load_baselines, told_apart

    folders = folders_of([directory_of(path) for path in given.logdirs])
    baselines = told_apart([], {file: load_baselines([file]) for file in given.baselines})
    kept = given.token_file or (None if is_loopback(given.host) else token_file())
    token = make_token(kept) if kept else ""
    url = read_webhook(given.webhook_file) if given.webhook_file else ""
    alerts = Alerts(webhook(url, partial(print, file=sys.stderr))) if url else Alerts()
    views = Views(Runs(folders), baselines, alerts)
    with listen(given.host, given.port) as listening:

        def ready(address: str) -> None:
            print(f"Nexus monitor: {address} (Ctrl-C ends it)")
            if kept:
                print(f"The page asks for the token in {kept}. Over a network, reach it through ssh -L or TLS.")
            sys.stdout.flush()

        serve(application(views, token), listening, token, ready)
    return 0
