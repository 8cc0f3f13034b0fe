"""LinuxKit's `resources`: the limits of a control group, as the OCI runtime specification names them.

Source: LinuxKit's configuration reference, and the OCI runtime specification 1.0.2, config-linux. What only the
first version of control groups has is marked as unsupported: a guest has the second.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from ccstore.recipe.linuxkit_values import Number, Positive
from ccstore.recipe.values import Flag, Model, Text

CGROUP_V1: JsonDict = {"unsupported": "only version 1 of control groups has it"}


def camel(name: str) -> str:
    """`oom_score_adj` as LinuxKit writes it: `oomScoreAdj`."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


class LinuxKitModel(Model):
    """Keys are written as LinuxKit does: `oomScoreAdj`."""

    model_config = ConfigDict(alias_generator=camel)


class DeviceRule(LinuxKitModel):
    """A rule of the device controller."""

    allow: Flag = Field(default=False, description="Allow, or deny.")
    type: Literal["a", "b", "c"] = Field(default="a", description="All, block or character devices.")
    major: Number | None = Field(default=None, description="Major number; any if not given.")
    minor: Number | None = Field(default=None, description="Minor number; any if not given.")
    access: Text = Field(default="rwm", description="r, w and m: read, write, make the node.")


class MemoryLimits(LinuxKitModel):
    """Memory, in bytes."""

    limit: Number | None = Field(default=None, description="Most memory, in bytes; -1 for no limit.")
    reservation: Number | None = Field(default=None, description="Soft limit, in bytes.")
    swap: Number | None = Field(default=None, description="Memory and swap together, in bytes.")
    kernel: Number | None = Field(default=None, description="Kernel memory.", json_schema_extra=CGROUP_V1)
    kernel_tcp: Number | None = Field(
        default=None, alias="kernelTCP", description="Buffers of TCP.", json_schema_extra=CGROUP_V1
    )
    swappiness: Number | None = Field(
        default=None, description="How readily to swap.", json_schema_extra=CGROUP_V1
    )
    disable_oom_killer: Flag | None = Field(
        default=None,
        alias="disableOOMKiller",
        description="Wait instead of killing.",
        json_schema_extra=CGROUP_V1,
    )


class CpuLimits(LinuxKitModel):
    """Processors; times in microseconds."""

    shares: Positive | None = Field(default=None, description="Weight against others (1024 is usual).")
    quota: Number | None = Field(default=None, description="Time per period, in microseconds.")
    period: Positive | None = Field(default=None, description="The period, in microseconds.")
    realtime_runtime: Number | None = Field(
        default=None, description="Time of real-time tasks.", json_schema_extra=CGROUP_V1
    )
    realtime_period: Positive | None = Field(
        default=None, description="The period for them.", json_schema_extra=CGROUP_V1
    )
    cpus: Text | None = Field(default=None, description="Which processors, for example 0-3.")
    mems: Text | None = Field(default=None, description="Which memory nodes.")


class PidsLimit(LinuxKitModel):
    """Processes."""

    limit: Number | None = Field(default=None, description="Most processes; -1 for no limit.")


class WeightDevice(LinuxKitModel):
    """The weight of a container on one disk."""

    major: Number = Field(description="Major number of the disk.")
    minor: Number = Field(description="Minor number of the disk.")
    weight: Positive | None = Field(default=None, description="Weight, 10 to 1000.")
    leaf_weight: Positive | None = Field(
        default=None, description="Weight against its own children.", json_schema_extra=CGROUP_V1
    )


class ThrottleDevice(LinuxKitModel):
    """A rate on one disk."""

    major: Number = Field(description="Major number of the disk.")
    minor: Number = Field(description="Minor number of the disk.")
    rate: Positive = Field(description="Bytes or operations per second.")


class BlockIo(LinuxKitModel):
    """Disks."""

    weight: Positive | None = Field(default=None, description="Weight against others, 10 to 1000.")
    leaf_weight: Positive | None = Field(
        default=None, description="Weight against its own children.", json_schema_extra=CGROUP_V1
    )
    weight_device: list[WeightDevice] = Field(default=[], description="Weights by disk.")
    throttle_read_bps_device: list[ThrottleDevice] = Field(default=[], description="Bytes read per second.")
    throttle_write_bps_device: list[ThrottleDevice] = Field(
        default=[], description="Bytes written per second."
    )
    throttle_read_iops_device: list[ThrottleDevice] = Field(
        default=[], alias="throttleReadIOPSDevice", description="Reads per second."
    )
    throttle_write_iops_device: list[ThrottleDevice] = Field(
        default=[], alias="throttleWriteIOPSDevice", description="Writes per second."
    )


class HugepageLimit(LinuxKitModel):
    """Huge pages of one size."""

    page_size: Text = Field(description="The size, for example 2MB.")
    limit: Positive = Field(description="Most bytes in such pages.")


class InterfacePriority(LinuxKitModel):
    """The priority of traffic on an interface."""

    name: Text = Field(description="The interface.")
    priority: Positive = Field(description="Its priority.")


class Network(LinuxKitModel):
    """Marks on traffic."""

    class_id: Positive | None = Field(
        default=None, alias="classID", description="Class of the traffic.", json_schema_extra=CGROUP_V1
    )
    priorities: list[InterfacePriority] = Field(
        default=[], description="Priorities by interface.", json_schema_extra=CGROUP_V1
    )


class Resources(LinuxKitModel):
    """Limits of a container's control group."""

    devices: list[DeviceRule] = Field(default=[], description="Which devices may be used.")
    memory: MemoryLimits | None = Field(default=None, description="Memory.")
    cpu: CpuLimits | None = Field(default=None, description="Processors.")
    pids: PidsLimit | None = Field(default=None, description="Processes.")
    blockio: BlockIo | None = Field(default=None, description="Disks.")
    hugepage_limits: list[HugepageLimit] = Field(default=[], description="Huge pages.")
    network: Network | None = Field(
        default=None, description="Marks on traffic.", json_schema_extra=CGROUP_V1
    )
