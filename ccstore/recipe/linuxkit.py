"""LinuxKit's description of a guest: kernel, init, containers, volumes, files.

Source: LinuxKit's configuration reference (docs/yaml.md) and the schema of its command `linuxkit build`. A field
that is valid there and that we cannot honour says so in `json_schema_extra["unsupported"]`; it is refused when the
recipe is lowered, so that such a file can still be read and checked.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from ccstore.recipe.linuxkit_resources import LinuxKitModel, Resources
from ccstore.recipe.linuxkit_values import (
    Bind,
    Capabilities,
    ContainerName,
    DeviceMode,
    Environment,
    GuestPath,
    Identity,
    ImageName,
    InRoot,
    Limit,
    Mode,
    Namespace,
    NetNamespace,
    Number,
    Positive,
    SourceFile,
    Tmpfs,
    VolumeName,
    Words,
)
from ccstore.recipe.values import Flag, Text

Propagation = Literal[
    "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"
]
NO_CONTAINERD: JsonDict = {"unsupported": "the guest's init runs containers without containerd"}


class Kernel(LinuxKitModel):
    """What is booted."""

    image: ImageName = Field(
        default="",
        description="A kernel of ours, or an OCI image that has one.",
        examples=["kernel"],
    )
    cmdline: Text = Field(
        default="",
        description="The kernel's command line; what a format needs (`root=` and the like) is added to it.",
        examples=["console=ttyS0 panic=1"],
    )
    binary: Text = Field(
        default="",
        description="The kernel's file in an OCI image; `kernel` if not given.",
        examples=["bzImage"],
    )
    tar: Text = Field(
        default="none", description="A tarball of modules in the image: only `none` is supported."
    )
    ucode: Text | None = Field(
        default=None,
        description="Microcode to put before the initrd.",
        json_schema_extra={"unsupported": "the processor of a virtual machine has no microcode to load"},
    )


class IdMapping(LinuxKitModel):
    """A range of ids of a user namespace."""

    host_id: Positive = Field(alias="hostID", description="First id outside.")
    container_id: Positive = Field(alias="containerID", description="First id inside.")
    size: Positive = Field(description="How many.")


class Mount(LinuxKitModel):
    """A mount in full."""

    type: Text = Field(
        default="", description="The file system, or `bind`; follows from the source if it can."
    )
    source: Text = Field(default="", description="What is mounted; the type's name if not given.")
    destination: Text = Field(default="", description="Where; follows from the type if it can.")
    options: Words = Field(default=[], description="Mount options.")
    uid_mappings: list[IdMapping] = Field(
        default=[],
        alias="uidmappings",
        description="Mapped users.",
        json_schema_extra={"unsupported": "mounts with mapped ids are not part of OCI 1.0.2"},
    )
    gid_mappings: list[IdMapping] = Field(
        default=[],
        alias="gidmappings",
        description="Mapped groups.",
        json_schema_extra={"unsupported": "mounts with mapped ids are not part of OCI 1.0.2"},
    )


class Device(LinuxKitModel):
    """A device node in the container; with the path `all`, the right to use all of that type."""

    path: Text = Field(description="Its path, or `all`.", examples=["/dev/console"])
    type: Literal["a", "b", "c", "u", "p"] = Field(
        description="c or u: character, b: block, p: FIFO; a: any (with `all`)."
    )
    major: Positive = Field(default=0, description="Major number.")
    minor: Positive = Field(default=0, description="Minor number.")
    mode: DeviceMode = Field(default="", description="Its mode.", validate_default=False)

    @model_validator(mode="after")
    def _node(self) -> Device:
        if self.path == "all":
            return self
        if not self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(f"a device's path should be absolute or `all`, not {self.path!r}")
        if not self.mode or self.type == "a":
            raise ValueError(f"the device {self.path} wants a `mode` and a type of c, b, u or p")
        return self


class Interface(LinuxKitModel):
    """A network interface for a container."""

    name: Text = Field(default="", description="Its name.")
    add: Text = Field(default="", description="The type of a new one.")
    peer: Text = Field(default="", description="The other end of a veth.")
    create_in_root: Flag = Field(default=False, description="Make it outside first, then move it.")


class Namespaces(LinuxKitModel):
    """Where to bind the namespaces of a container, by kind."""

    cgroup: GuestPath | None = Field(default=None, description="Path for the cgroup namespace.")
    ipc: GuestPath | None = Field(default=None, description="Path for the ipc namespace.")
    mnt: GuestPath | None = Field(default=None, description="Path for the mount namespace.")
    net: GuestPath | None = Field(default=None, description="Path for the network namespace.")
    pid: GuestPath | None = Field(default=None, description="Path for the pid namespace.")
    user: GuestPath | None = Field(default=None, description="Path for the user namespace.")
    uts: GuestPath | None = Field(default=None, description="Path for the uts namespace.")


class Runtime(LinuxKitModel):
    """What init does before it starts a container."""

    cgroups: Words = Field(default=[], description="Control groups to make.")
    mounts: list[Mount] = Field(default=[], description="Mounts outside of the container.")
    mkdir: list[GuestPath] = Field(default=[], description="Folders to make outside of the container.")
    interfaces: list[Interface] = Field(
        default=[],
        description="Network interfaces to make or to move in.",
        json_schema_extra={"unsupported": "the guest's init does not set up network interfaces"},
    )
    bind_ns: Namespaces | None = Field(
        default=None, alias="bindNS", description="Where to keep the container's namespaces."
    )
    namespace: Text | None = Field(
        default=None, description="The namespace of containerd.", json_schema_extra=NO_CONTAINERD
    )


class Container(LinuxKitModel):
    """A container of `onboot`, `onshutdown` or `services`.

    What is not given is taken from the label `org.mobyproject.config` of an OCI image, then from its configuration.
    """

    name: ContainerName = Field(description="Its name, which is its id.", examples=["rngd"])
    image: ImageName = Field(
        description="Its root: a target of ours that is a root tree, or an OCI image by digest "
        "(`registry/name@sha256:…`, `oci:DIR@sha256:…`, `docker-daemon:name@sha256:…`).",
        examples=["busybox"],
    )
    on_exit: Literal["nothing", "restart", "restart-on-failure", "poweroff"] = Field(
        default="nothing",
        alias="on-exit",
        description="Of a service: what init does when it ends. Ours, not LinuxKit's.",
        examples=["restart"],
    )
    capabilities: Capabilities | None = Field(
        default=None,
        description="Capabilities; `all` alone stands for all of them.",
        examples=[["CAP_SYS_ADMIN"]],
    )
    capabilities_add: Capabilities | None = Field(
        default=None, alias="capabilities.add", description="Capabilities beside those of the image's label."
    )
    ambient: Capabilities | None = Field(default=None, description="Ambient capabilities.")
    mounts: list[Mount] | None = Field(
        default=None, description="Mounts; one at the place of a usual one (`/proc`, `/dev`, …) replaces it."
    )
    binds: list[Bind] | None = Field(
        default=None,
        description="Bind mounts, `source:destination[:options]`; a source without `/` is a volume.",
        examples=[["/etc/resolv.conf:/etc/resolv.conf", "data:/data:ro"]],
    )
    binds_add: list[Bind] | None = Field(
        default=None, alias="binds.add", description="Bind mounts beside those of the image's label."
    )
    tmpfs: list[Tmpfs] | None = Field(
        default=None,
        description="In-memory file systems, `/destination[:options]`.",
        examples=[["/cache:size=1m"]],
    )
    command: Words | None = Field(
        default=None,
        description="What is run; of an OCI image, entry point and command.",
        examples=[["/bin/sh"]],
    )
    env: list[Environment] | None = Field(
        default=None, description="Environment; a usual PATH if there is none.", examples=[["HOME=/root"]]
    )
    cwd: GuestPath | None = Field(default=None, description="Working directory; `/` if not given.")
    net: NetNamespace | None = Field(
        default=None, description="Network namespace: `host` (usual), `new`, `none`, or a path."
    )
    pid: Namespace | None = Field(
        default=None, description="Process namespace: `new` (usual), `host`, or a path."
    )
    ipc: Namespace | None = Field(
        default=None, description="IPC namespace: `host` (usual), `new`, or a path."
    )
    uts: Namespace | None = Field(
        default=None, description="UTS namespace: `host` (usual), `new`, or a path."
    )
    userns: Namespace | None = Field(
        default=None, description="User namespace: `host` (usual), `new`, or a path."
    )
    hostname: Text | None = Field(default=None, description="Host name; needs a UTS namespace of its own.")
    readonly: Flag | None = Field(
        default=None,
        description="The root is read-only; if not, writes go to memory and are lost at the end.",
    )
    masked_paths: list[GuestPath] | None = Field(default=None, description="Paths to hide.")
    readonly_paths: list[GuestPath] | None = Field(default=None, description="Paths to make read-only.")
    uid: Identity | None = Field(
        default=None,
        description="User: a number, the name of a container (which has an id of its own), or one of the image's.",
    )
    gid: Identity | None = Field(default=None, description="Group, in the same way.")
    additional_gids: list[Identity] | None = Field(default=None, description="More groups.")
    no_new_privileges: Flag | None = Field(default=None, description="No set-uid, no new capabilities.")
    oom_score_adj: Number | None = Field(default=None, description="Rank for the out-of-memory killer.")
    rootfs_propagation: Propagation | None = Field(
        default=None, description="Propagation of mounts of the root."
    )
    cgroups_path: Text | None = Field(default=None, description="Path of its control group.")
    resources: Resources | None = Field(default=None, description="Limits of its control group.")
    sysctl: dict[Text, Text] | None = Field(default=None, description="Kernel parameters of its namespaces.")
    rlimits: list[Limit] | None = Field(
        default=None, description="Limits, `name,soft,hard`.", examples=[["nofile,1024,4096"]]
    )
    uid_mappings: list[IdMapping] | None = Field(default=None, description="Users of its user namespace.")
    gid_mappings: list[IdMapping] | None = Field(default=None, description="Groups of its user namespace.")
    annotations: dict[Text, Text] | None = Field(default=None, description="OCI annotations.")
    devices: list[Device] | None = Field(default=None, description="Devices.")
    runtime: Runtime | None = Field(default=None, description="What init does before the start.")


class Volume(LinuxKitModel):
    """A folder that containers share."""

    name: VolumeName = Field(description="Its name.", examples=["data"])
    image: ImageName | None = Field(default=None, description="What is in it; nothing if not given.")
    readonly: Flag = Field(default=False, description="Nobody may write to it.")
    format: Literal["filesystem", "oci"] = Field(
        default="filesystem", description="The image's files, or its OCI layout."
    )
    platforms: list[Text] | None = Field(
        default=None, description="Platforms of a layout: only linux/amd64 is supported."
    )


class GuestFile(LinuxKitModel):
    """A file, folder or link of the root."""

    path: InRoot = Field(description="Its path in the guest.", examples=["etc/motd"])
    contents: str | None = Field(default=None, description="Its text.", examples=["hello"])
    source: SourceFile | None = Field(
        default=None, description="A file of the project, relative to this one."
    )
    symlink: Text | None = Field(default=None, description="Make a symbolic link with this text.")
    directory: Flag = Field(default=False, description="Make a folder.")
    metadata: Literal["yaml"] | None = Field(default=None, description="Write this recipe, as JSON.")
    optional: Flag = Field(default=False, description="Leave it out if `source` is not there.")
    mode: Mode | None = Field(default=None, description="Its mode; 0600, of a folder 0700, if not given.")
    uid: Identity | None = Field(default=None, description="Owner: a number, or the name of a container.")
    gid: Identity | None = Field(default=None, description="Group, in the same way.")

    @model_validator(mode="after")
    def _one_content(self) -> GuestFile:
        given = [
            key for key in ("contents", "source", "symlink", "metadata") if getattr(self, key) is not None
        ] + ["directory"] * self.directory
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has none of these"
            raise ValueError(
                f"the file {self.path} {found}: give one of contents, source, symlink, directory, metadata"
            )
        return self


class Trust(LinuxKitModel):
    """Signed names of Docker images."""

    image: Words = Field(default=[], description="Images.")
    org: Words = Field(default=[], description="Organisations.")


class Description(LinuxKitModel):
    """A whole file."""

    kernel: Kernel | None = Field(default=None, description="What is booted.")
    init: list[ImageName] = Field(
        default=[],
        description="Images whose trees make the root, in order; one of them brings `/init` or `/sbin/init`.",
        examples=[["guest-init", "crun"]],
    )
    volumes: list[Volume] = Field(default=[], description="Folders that containers share.")
    onboot: list[Container] = Field(
        default=[],
        description="Containers that run one after another before the services; one that fails ends the boot.",
    )
    onshutdown: list[Container] = Field(
        default=[], description="Containers that run one after another at power off."
    )
    services: list[Container] = Field(default=[], description="Containers that run on.")
    files: list[GuestFile] = Field(default=[], description="Files to add, after everything else.")
    trust: Trust | None = Field(
        default=None,
        description="Signed names of Docker images.",
        json_schema_extra={"unsupported": "images are known by their digest"},
    )


def unsupported(value: Any, loc: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], str]]:
    """The fields that are given and that we cannot honour: where, and why."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    if isinstance(value, LinuxKitModel) or hasattr(value, "model_fields_set"):
        for name, field in type(value).model_fields.items():
            if name not in value.model_fields_set:
                continue
            here = (*loc, field.alias or name)
            extra = field.json_schema_extra
            if isinstance(extra, dict) and "unsupported" in extra:
                found.append((here, str(extra["unsupported"])))
            else:
                found += unsupported(getattr(value, name), here)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += unsupported(each, (*loc, index))
    return found
