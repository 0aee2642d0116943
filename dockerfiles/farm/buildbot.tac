# What twistd runs. Buildbot's own commands look for the words Application('buildmaster') here.
from pathlib import Path

from pipeline.frontends.buildbot.process import application_in

application = application_in(Path(__file__).parent.resolve())
