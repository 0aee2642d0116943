# What twistd runs: a worker, by what worker.json beside this file says. The password is read from
# its own file at each start.
import json
from pathlib import Path

from buildbot_worker.bot import Worker
from twisted.application import service

directory = Path(__file__).parent.resolve()
said = json.loads((directory / "worker.json").read_text(encoding="utf-8"))
password = Path(said["password_file"]).read_text(encoding="utf-8").strip()

application = service.Application("buildbot-worker")
Worker(
    None,
    None,
    said["name"],
    password,
    str(directory),
    said["keepalive"],
    maxdelay=said["longest_wait"],
    connection_string=said["connection"],
).setServiceParent(application)
