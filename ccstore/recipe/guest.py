"""The recipe of a guest: LinuxKit's description of it, and what we say beside that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ccstore.recipe.base import RecipeBase
from ccstore.recipe.document import Loc
from ccstore.recipe.linuxkit import Container, Description
from ccstore.recipe.linuxkit_values import (
    DeviceNode,
    Identity,
    InRoot,
    Memory,
    Mode,
    Size,
    size_of,
    target_of,
)
from ccstore.recipe.values import Flag, Model, Target

Format = Literal[
    "vmlinux+initrd",
    "kernel+initrd",
    "vmlinux+pmem",
    "vmlinux+erofs",
    "vmlinux+erofs+verity",
    "kernel+squashfs",
    "tar",
    "oci",
]
FORMATS: tuple[Format, ...] = get_args(Format)
WITHOUT_KERNEL: tuple[Format, ...] = ("oci",)
SECTIONS = ("onboot", "onshutdown", "services")


class Attribute(Model):
    """Owner and mode of a path in the guest, which our own objects do not have; or a device node."""

    path: InRoot = Field(description="The path, which is there already unless `device` is given.")
    mode: Mode | None = Field(default=None, description="Its mode, with set-uid and sticky bits.")
    uid: Identity | None = Field(default=None, description="Owner: a number, or the name of a container.")
    gid: Identity | None = Field(default=None, description="Group, in the same way.")
    device: DeviceNode | None = Field(
        default=None, description="Make a device node: `c MAJOR MINOR` or `b MAJOR MINOR`."
    )


def _by_format(value: Any) -> Any:
    return value if isinstance(value, dict) else dict.fromkeys(FORMATS, size_of(value))


MaxSize = Annotated[
    dict[Format, Size],
    BeforeValidator(_by_format),
    WithJsonSchema(
        {
            "title": "size, or map of formats to sizes",
            "anyOf": [
                {"type": ["string", "integer"]},
                {"type": "object", "propertyNames": {"enum": list(FORMATS)}},
            ],
        }
    ),
]


class GuestRecipe(RecipeBase, Description):
    """A guest image, as LinuxKit describes it: a LinuxKit file with this `kind` added is a recipe.

    Steps: `rootfs`, one for each format (`.vmlinux+initrd`, …), and `kernel` when that comes out of an OCI image. The
    recipe itself means its `format`. An `image` is a target of ours that is a root tree, or an OCI image by digest.
    """

    model_config = ConfigDict(alias_generator=Model.model_config.get("alias_generator"))

    kind: Literal["guest"]
    tools: Target = Field(
        default="guest-tools", description="What the images are made with: a root tree with the tools."
    )
    format: Format = Field(default="vmlinux+initrd", description="What the recipe's own name means.")
    verity: Flag = Field(
        default=False, description="Protect the root with dm-verity: the format `vmlinux+erofs+verity`."
    )
    max_size: MaxSize = Field(
        default={},
        description="The most that an image may take, of one format or of each; 6MB is 6,000,000 bytes.",
        examples=["6MB", {"vmlinux+initrd": "6MB"}],
    )
    attributes: list[Attribute] = Field(
        default=[],
        description="Owners, modes and device nodes in the guest.",
        examples=[[{"path": "bin/su", "mode": "4755"}, {"path": "dev/null", "device": "c 1 3"}]],
    )
    container: Target | None = Field(
        default=None, description="The root tree of the container that `ccstore run` starts if none is given."
    )
    agent: Literal["hyperstart"] | None = Field(
        default=None, description="The agent that runs in the guest and starts containers; none if not given."
    )
    machine: Literal["q35", "microvm"] = Field(default="q35", description="QEMU's machine.")
    memory: Memory = Field(default="256M", description="Memory of the guest.")

    @property
    def main_format(self) -> Format:
        """The format that the recipe's own name means."""
        return "vmlinux+erofs+verity" if self.verity else self.format

    def containers(self) -> Iterator[tuple[Loc, Container]]:
        """Every container, in the order in which they run."""
        for section in SECTIONS:
            for index, each in enumerate(getattr(self, section)):
                yield (section, index), each

    def images(self) -> Iterator[tuple[Loc, str]]:
        """Every image of the root, with its place."""
        for index, name in enumerate(self.init):
            yield ("init", index), name
        for index, volume in enumerate(self.volumes):
            if volume.image:
                yield ("volumes", index, "image"), volume.image
        for loc, container in self.containers():
            yield (*loc, "image"), container.image

    def uses(self) -> Iterator[tuple[Loc, str]]:
        yield ("tools",), self.tools
        if self.kernel and (kernel := target_of(self.kernel.image)):
            yield ("kernel", "image"), kernel
        for loc, name in self.images():
            if found := target_of(name):
                yield loc, found
        if self.container:
            yield ("container",), self.container

    def may_lack(self, loc: Loc) -> bool:
        return loc[:1] == ("files",) and self.files[int(loc[1])].optional

    @model_validator(mode="after")
    def _verity_format(self) -> GuestRecipe:
        if self.verity and "format" in self.model_fields_set and not self.format.startswith("vmlinux+erofs"):
            raise ValueError(f"`verity` wants the format vmlinux+erofs+verity, not {self.format}")
        return self
