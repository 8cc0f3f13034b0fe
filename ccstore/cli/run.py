"""`ccstore run`: boots a guest, with its console here or to run a command in a container of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ccstore.cli.context import store_option
from ccstore.cli.passing import PassingStatus
from ccstore.errors import CcError

if TYPE_CHECKING:
    from ccstore.cli.boot import Targets
    from ccstore.guest.session import Machine
    from ccstore.guest.watch import Streams


@click.command("run", cls=PassingStatus)
@click.argument("target", metavar="TARGET")
@click.argument("argv", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
@click.option("--machine", type=click.Choice(["q35", "microvm"]), help="Machine type (default: the image's).")
@click.option("--memory", metavar="SIZE", help="Memory, such as 512M (default: the image's).")
@click.option("--cpus", type=click.IntRange(1, 255), default=1, help="Processors (default: 1).")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", help="KVM or emulation.")
@click.option("--no-network", is_flag=True, help="Leave the network out.")
@click.option("--publish", "-p", multiple=True, metavar="[ADDR:]HOST:GUEST[/udp]", help="Forward a port.")
@click.option("--share", multiple=True, metavar="DIR[:TAG][:ro]", help="Give the guest a folder (9p).")
@click.option("--virtiofs", is_flag=True, help="Share folders by virtiofsd (that of QEMU 7.2 needs root).")
@click.option("--volume", multiple=True, metavar="FILE[:ro]", help="Give the guest a raw disk image.")
@click.option("--append", default="", metavar="WORDS", help="Further kernel parameters.")
@click.option("--timeout", metavar="DURATION", help="End the guest after 45s, 10m, …")
@click.option("--ready-timeout", default="60s", metavar="DURATION", help="For the agent (default: 60s).")
@click.option("--qemu", metavar="TARGET|PATH", help="The QEMU to use (default: the host's, else `qemu`).")
@click.option(
    "--vmm",
    type=click.Choice(["qemu", "firecracker", "cloud-hypervisor"]),
    default="qemu",
    help="What runs the guest (default: qemu).",
)
@click.option("--rootfs", metavar="DIR|oci:DIR|TARGET", help="The container's root (default: the recipe's).")
@click.option("--env", "-e", multiple=True, metavar="K=V", help="A variable of the command's environment.")
@click.option("--workdir", "-w", default="/", metavar="DIR", help="Where the command starts (default: /).")
@click.option("--user", "-u", metavar="NAME|UID[:GID]", help="Who the command runs as (default: root).")
@click.option("--tty/--no-tty", "-t/-T", default=None, help="A terminal for the command (default: as here).")
@click.option("--incremental", is_flag=True, help="Make it as `realize --incremental` does.")
@click.option("--verbose", "-v", is_flag=True, help="With a command: the guest's console on stderr.")
@click.option("--dry-run", is_flag=True, help="Print the command line or configuration, and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: the command line as JSON.")
@store_option
def command(target: str, argv: tuple[str, ...], store: str | None, **values: Any) -> None:
    """Boot TARGET, and run COMMAND in a container of it.

    Without COMMAND the guest's console is here until the guest powers off; Ctrl-] ends it. The exit status is that
    of COMMAND (128 + n if signal n ended it), or 0 after a power-off; 125 says that ccstore or the guest failed.
    Images are never written. A kernel recipe boots without a root, and ends when it wants one.

    \b
    ccstore run clear-containers                      the console
    ccstore run clear-containers -- sh -c 'exit 7'    a command in a container
    ccstore run clear-containers.vmlinux+initrd --machine microvm --memory 64M
    ccstore run clear-containers --publish 8080:80 --share .:work:ro -- /bin/sh
    """
    from ccstore.cli.boot import Targets, session

    with Targets(store, incremental=values["incremental"]) as targets:
        if values["vmm"] != "qemu":
            other_monitor(target, targets, argv, values)
            return
        if argv:
            status = run_command(target, targets, argv, values)
            click.get_current_context().exit(status)
        asked = session(target, targets, values)
        if values["dry_run"]:
            print_command(asked.pasted(), as_json=values["as_json"])
        else:
            show_console(asked.console)


def print_command(command: list[str], *, as_json: bool) -> None:
    from ccstore.guest.qemu import shell_line

    click.echo(json.dumps(command, indent=2, ensure_ascii=False) if as_json else shell_line(command))


def show_console(boot: Callable[[Streams], None]) -> None:
    """The guest's console on this terminal, or passed through as it is where there is none."""
    from ccstore.guest.watch import Streams
    from ccstore.terminal import raw

    on_terminal = os.isatty(0)
    if on_terminal:
        click.echo("ccstore: Ctrl-] ends the guest", err=True)
    with raw(0):
        boot(Streams(keyboard=0, screen=1, escape=on_terminal))


def other_monitor(target: str, targets: Targets, argv: tuple[str, ...], values: Mapping[str, Any]) -> None:
    """Firecracker or cloud-hypervisor: its configuration, or a guest with its console here."""
    from ccstore.cli.boot import image_and_options, seconds
    from ccstore.guest import session, vmm

    monitor = values["vmm"]
    if argv:
        hint = "leave --vmm out, or the command: its console shows the guest"
        raise CcError(
            "vmm-unfit", f"commands are run through QEMU's channels, and not by {monitor}", hint=hint
        )
    for name in ("machine", "qemu", "rootfs", "virtiofs", "env", "workdir", "user", "tty"):
        if values[name] not in (None, False, ()) and (name, values[name]) != ("workdir", "/"):
            _refuse(monitor, name)
    if values["accel"] == "tcg":
        raise CcError("vmm-unfit", f"{monitor} has no emulation", hint="leave --accel out, or use --vmm qemu")
    image, options = image_and_options(target, targets, values)
    timeout = seconds(values, "timeout")
    if not values["dry_run"]:
        show_console(lambda streams: session.other_monitor(monitor, image, options, streams, timeout))
    elif monitor == vmm.FIRECRACKER:
        click.echo(vmm.firecracker_config(image, options))
    else:
        command = [monitor, *vmm.cloud_hypervisor_arguments(image, options)]
        print_command(command, as_json=values["as_json"])


def _refuse(monitor: str, name: str) -> NoReturn:
    message = f"--{name} means nothing to {monitor}"
    raise CcError("vmm-unfit", message, hint=f"leave --{name} out, or use --vmm qemu")


def run_command(target: str, targets: Targets, argv: tuple[str, ...], values: Mapping[str, Any]) -> int:
    """Runs the command in a container of the guest and gives its exit status."""
    from ccstore.cli.boot import seconds, session
    from ccstore.cli.rootfs import container_root
    from ccstore.guest import command as guest_command
    from ccstore.guest import inside
    from ccstore.guest.watch import Streams

    wanted = guest_command.Command.of(argv, values["env"], values["workdir"], values["user"], values["tty"])
    limit = seconds(values, "ready_timeout") or 0.0
    with container_root(target, targets, values["rootfs"]) as root:
        if root.folder is not None:
            inside.check(root.folder, wanted.workdir, wanted.user, wanted.group)
        asked = session(target, targets, values)
        if asked.image.agent is None:
            message = f"{asked.image.name} has no agent that could start a container"
            hint = "leave the command out for its console, or give its recipe an agent"
            raise CcError("vmm-unfit", message, hint=hint)
        if values["dry_run"]:
            print_command(asked.pasted(root), as_json=values["as_json"])
            return 0

        def work(machine: Machine) -> int:
            name, network = asked.image.name, asked.options.network
            return guest_command.run(
                machine, wanted, hostname=name[:63], network=network, ready_timeout=limit
            )

        return asked.work(root, Streams(screen=2 if values["verbose"] else None, dispensable=True), work)
