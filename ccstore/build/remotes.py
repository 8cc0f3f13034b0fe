"""The Remote Execution service that the project or the person configures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.codec.rechannel import Remote
from ccstore.recipe.userfile import user_file

if TYPE_CHECKING:  # what validates a configuration takes longer to load than a small push
    from ccstore.recipe.settings import ProjectConfig, RemoteSettings, UserConfig


def configured_remote(
    project: tuple[ProjectConfig, Path] | None, user: UserConfig, environ: Mapping[str, str]
) -> Remote | None:
    """That of the project (with its folder), else that of the person; None if neither names one."""
    if project and project[0].remote:
        return remote_of(project[0].remote, project[1] / "recipes")
    file = user_file(environ)
    return remote_of(user.remote, Path(file).parent) if user.remote and file else None


def remote_of(settings: RemoteSettings, folder: Path) -> Remote:
    """The service that a configuration in `folder` names: its files are relative to that, `~` is the user's home."""
    files = {
        name: folder / Path(value).expanduser()
        for name in ("token", "ca", "cert", "key")
        if (value := getattr(settings, name))
    }
    return Remote(settings.url, settings.instance, settings.headers, **files, image=settings.image)
