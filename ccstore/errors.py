"""The one error type of ccstore.

An error has a stable `code` that scripts and tests rely on, a message that says what happened and where, and a
hint that says what to do next. The exit status follows from the code alone (README, "Commands").
"""

from __future__ import annotations

# exit status by code; a code that is not listed here is a defect (see tests/test_errors.py)
EXIT_STATUS: dict[str, int] = {
    "internal": 1,
    # 2: the command line or a recipe is wrong
    "usage": 2,
    "recipe-syntax": 2,
    "recipe-invalid": 2,
    "recipe-unknown": 2,
    "recipe-cycle": 2,
    "recipe-outside": 2,
    "unsupported-field": 2,
    "image-unpinned": 2,
    "path-missing": 2,
    "path-conflict": 2,
    "file-missing": 2,
    "file-changed": 2,
    "no-project": 2,
    "project-exists": 2,
    "config-invalid": 2,
    "mirror-unknown": 2,
    "lock-stale": 2,
    "lock-invalid": 2,
    "name-invalid": 2,
    "key-invalid": 2,
    "key-missing": 2,
    "not-a-cache": 2,
    "platform-missing": 2,
    "not-an-image": 2,
    "not-bootable": 2,
    "runtime-unfit": 2,
    "output-exists": 2,
    "root-unknown": 2,
    # 3: a build failed
    "build-failed": 3,
    "build-timeout": 3,
    "output-missing": 3,
    "output-invalid": 3,
    "config-dropped": 3,
    "config-unknown": 3,
    "patch-failed": 3,
    "patch-applied": 3,
    "version-mismatch": 3,
    "archive-refused": 3,
    "image-corrupt": 3,
    "image-too-large": 3,
    "kernel-missing": 3,
    "kernel-invalid": 3,
    "kernel-unsupported": 3,
    # 4: integrity and reproducibility
    "hash-mismatch": 4,
    "object-damaged": 4,
    "not-reproducible": 4,
    "signature-invalid": 4,
    "nar-invalid": 4,
    "cache-invalid": 4,
    "image-invalid": 4,
    "boot-invalid": 4,
    # 5: asked for and not there
    "not-realised": 5,
    "not-clean": 5,
    "not-found": 5,
    # 6: this host cannot
    "unreachable": 6,
    "index-expired": 6,
    "image-missing": 6,
    "auth-needed": 6,
    "no-docker": 6,
    "remote-failed": 6,
    "remote-unfit": 6,
    "push-refused": 6,
    "output-refused": 6,
    "fetch-stalled": 6,
    "fetch-too-large": 6,
    "disk-full": 6,
    "disk-failed": 6,
    "read-only-store": 6,
    "store-unusable": 6,
    "store-busy": 6,
    "newer-store": 6,
    "no-userns": 6,
    "sandbox-failed": 6,
    "tool-missing": 6,
    # 125: `run` itself failed, not the command in the guest; `run` shows every other failure so too
    "guest-ended": 125,
    "guest-failed": 125,
    "guest-not-ready": 125,
    "guest-panicked": 125,
    "guest-timeout": 125,
    "vmm-failed": 125,
    "vmm-missing": 125,
    "vmm-unfit": 125,
    # the agent in a guest
    "agent-not-ready": 125,
    "agent-timeout": 125,
    "agent-error": 125,
    "agent-gone": 125,
    "agent-protocol": 125,
    "interrupted": 130,
}


class CcError(Exception):
    """A failure that a user can act on.

    `where` names the place (a file with line and column, a URL, a derivation), `details` are further lines
    (a reject, the tail of a log), `hint` is the next thing to do.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint
        self.details = details

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.code]

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message} [{self.code}]"
