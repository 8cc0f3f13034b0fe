"""A bzImage: the kernel that is packed in it."""

from __future__ import annotations

from collections.abc import Iterator

from ccstore.builders.vmlinux import KernelError, decompress, is_bzimage, payload
from ccstore.compare.findings import Context, Data, Explain, Finding

HEADER = 0x206  # bytes, with the signature of the boot protocol


def explain(inner: Explain) -> Explain:
    """Explains two bzImages by their payloads, which `inner` explains."""

    def explain_kernel(first: Data, second: Data, context: Context) -> Iterator[Finding]:
        one, other = _kernel(first), _kernel(second)
        if one and other and one != other:
            yield from inner(one, other, context.inside("kernel in the bzImage"))

    return explain_kernel


def _kernel(image: Data) -> bytes | None:
    if not is_bzimage(image[:HEADER]):
        return None
    try:
        return decompress(payload(image[:]))
    except (KernelError, OSError):  # damaged, or a compression that this host has no tool for
        return None
