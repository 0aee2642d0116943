"""A copy of all that a farm cannot do without: its master's database, passwords, CA and settings.

One tar file that only its owner can read. What is in work directories is not in it: it is found
again under its keys, or made again.
"""

import tarfile
import tempfile
from pathlib import Path
from typing import Final

from pipeline.effects.databases import copy_sqlite, dump_postgresql, load_postgresql, sqlite_file
from pipeline.effects.files import new_directory
from pipeline.effects.process import ProcessRunner
from pipeline.errors import ConfigError
from pipeline.farm.settings import DATABASE_FILE, SETTINGS_NAME, read_secret, read_settings

STATE: Final = "master/state.sqlite"
DUMP: Final = "database.sql"
PRIVATE: Final = ("secrets", "tls", "master")
KEPT: Final = ("secrets", "tls", f"master/{SETTINGS_NAME}", "project/translation_configs")


def back_up(directory: Path, file: Path, process: ProcessRunner) -> int:
    """Copy the farm in *directory*, which may run, into *file*; return the file's size.

    Raises:
        ConfigError: there is no farm, or *file* is there already.
    """
    if file.exists():
        msg = f"{file}: is there already. Name another file."
        raise ConfigError(msg)
    url = _url(directory)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".partial-") as private:
        made = Path(private, "backup.tar")
        made.touch(mode=0o600)
        with tarfile.open(made, "w") as archive:
            archive.add(*_database(directory, url, Path(private), process))
            for name in KEPT:
                archive.add(directory / name, name)
        made.rename(file)
    return file.stat().st_size


def _database(directory: Path, url: str, private: Path, process: ProcessRunner) -> tuple[Path, str]:
    """Return a copy of the database, and its name in the archive."""
    copy = private / "database"
    source = sqlite_file(url, directory / "master")
    if source is None:
        dump_postgresql(process, url, copy)
        return copy, DUMP
    copy_sqlite(source, copy)
    return copy, STATE


def restore(file: Path, directory: Path, process: ProcessRunner) -> None:
    """Make the farm of *file* in *directory*, where there must be none.

    Raises:
        ConfigError: there is one, or the file is no backup.
    """
    if directory.exists() and any(directory.iterdir()):
        msg = (
            f"{directory}: is not empty, and a farm may run there. Restore into another directory "
            "(--directory), or move this one away."
        )
        raise ConfigError(msg)
    with new_directory(directory) as made:
        try:
            with tarfile.open(file) as archive:
                # Debian 12's Python has no filters yet, and looks at no such attribute.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(made)  # noqa: S202 - it is the farm's own copy
        except (tarfile.TarError, OSError) as error:
            msg = f"{file}: cannot be restored: {error}."
            raise ConfigError(msg) from error
        for name in PRIVATE:
            (made / name).chmod(0o700)
        dump = made / DUMP
        if dump.is_file():
            load_postgresql(process, _url(made), dump)
            dump.unlink()


def _url(directory: Path) -> str:
    """Return the address of the database of the farm in *directory*, wherever that was before.

    Raises:
        ConfigError: there is no farm.
    """
    settings = read_settings(directory / "master" / SETTINGS_NAME)
    secret = directory / "secrets" / DATABASE_FILE
    return read_secret(secret) if secret.exists() else settings.database
