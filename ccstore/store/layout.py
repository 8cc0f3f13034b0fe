"""Where things lie in a store. Whoever only looks (`path`, `realize` with nothing to do) needs no more than this.

    <store>/
      format                      "ccstore-store 1", a newline: the version of this layout
      index.sqlite                an index over all the rest, rebuilt from it when lost (database.py)
      index.sqlite.broken         one that could not be read, for a while
      reserve                     room for a collection on a full disk (reserve.py)
      optimising                  which object's files are being replaced by links just now (optimise.py)
      objects/<hash>-<name>       the objects: immutable files and trees, names as in /nix/store
      objects/.tmp-<session>-<n>  being made by a live session; rubbish once that session has ended
      objects/.trash-*            collected and being deleted
      manifests/<hash>-<name>     what each file of an object holds (manifest.py)
      drvs/<id>                   canonical bytes of derivations
      realisations/<id>^<output>.json
      checks/<id>^<output>.json   what rebuilding it under other conditions gave (checks.py)
      roots/<project id>/<TARGET> one line of JSON for each GC root (roots.py)
      lineages/<project id>/<TARGET>  what that was made from, in words (lineages.py)
      logs/<derivation id>.zst    build logs
      history/<step>.jsonl        one line for each run of a step
      partial/<derivation id>     unfinished downloads, which the next try goes on with
      failed/                     folders of failed builds that were to be kept
      evaluations/                the evaluation cache
      ccache/<object>-<uid>/      what compilers of a toolchain made before (compile_cache.py)
      warm/<project id>/<step>/   build folders for incremental builds (warm.py)
      temproots/<session>         what a running session needs; locked for as long as the session lives
      docker/                     what tells this store's builds in a Docker daemon from others (executor/lease.py)
      locks/                      gc.lock, <derivation id>, object-<hash>-<name>, warm-<project id>-<step>

Objects, manifests, derivations, realisations and roots are the truth. An object is registered when the index
knows it, which comes last; so whatever a root names is whole: `roots/<project>/<TARGET>` and
`objects/<its path>` being there is all that a quick look has to check.

Locks, in the order in which they are taken: a derivation's, a build folder's, an object's, `gc.lock`. A root, a
temporary root, a realisation or a registration takes `gc.lock` shared for as long as it writes; a collection holds it
alone while it decides and moves dead objects aside, and deletes them after it let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath

STORE_FORMAT = 1
STAGING_PREFIX = ".tmp-"
TRASH_PREFIX = ".trash-"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of files below the store's folder `root`; computes, touches nothing."""

    root: Path

    @property
    def format(self) -> Path:
        return self.root / "format"

    @property
    def index(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def reserve(self) -> Path:
        return self.root / "reserve"

    @property
    def optimising(self) -> Path:
        """There while, and after a kill in the midst of it, an object's files are replaced by links."""
        return self.root / "optimising"

    @property
    def broken_index(self) -> Path:
        """An index that could not be read, put aside for whoever wants to know why."""
        return self.root / "index.sqlite.broken"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    @property
    def derivations(self) -> Path:
        return self.root / "drvs"

    @property
    def realisations(self) -> Path:
        return self.root / "realisations"

    @property
    def checks(self) -> Path:
        return self.root / "checks"

    @property
    def roots(self) -> Path:
        return self.root / "roots"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def lineages(self) -> Path:
        return self.root / "lineages"

    @property
    def history(self) -> Path:
        return self.root / "history"

    @property
    def partial(self) -> Path:
        return self.root / "partial"

    @property
    def failed(self) -> Path:
        return self.root / "failed"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def compile_caches(self) -> Path:
        return self.root / "ccache"

    @property
    def warm(self) -> Path:
        return self.root / "warm"

    @property
    def temproots(self) -> Path:
        return self.root / "temproots"

    @property
    def docker(self) -> Path:
        return self.root / "docker"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def gc_lock(self) -> Path:
        return self.locks / "gc.lock"

    def object(self, path: StorePath) -> Path:
        return self.objects / path.base

    def manifest(self, path: StorePath) -> Path:
        return self.manifests / path.base

    def derivation(self, derivation_id: str) -> Path:
        return self.derivations / derivation_id

    def realisation(self, output: OutputId) -> Path:
        return self.realisations / f"{output}.json"

    def check(self, output: OutputId) -> Path:
        return self.checks / f"{output}.json"

    def log(self, derivation_id: str) -> Path:
        return self.logs / f"{derivation_id}.zst"

    def folders(self) -> tuple[Path, ...]:
        """Every folder that a store has from the start."""
        return (
            self.objects,
            self.manifests,
            self.derivations,
            self.realisations,
            self.checks,
            self.roots,
            self.lineages,
            self.logs,
            self.history,
            self.partial,
            self.failed,
            self.evaluations,
            self.compile_caches,
            self.warm,
            self.temproots,
            self.locks,
        )
