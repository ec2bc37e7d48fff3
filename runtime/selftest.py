"""Does this bundle run faithfully on this machine? Every file, and every variant against its golden vectors."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .bundle import GOLDEN_FILE, Bundle, Variant, open_bundle
from .engines import Engine, Executed
from .errors import BundleError, EngineError
from .golden import PIXEL_TOLERANCE, Golden, pixel_error, read_golden
from .hardware import Cpu, this_cpu
from .placement import in_order, remembered
from .variants import start_variant


class VariantCheck(msgspec.Struct, frozen=True):
    """One variant on this machine.

    Attributes:
        status: ``ok``, or why it is not run here.
        golden_error: largest logit difference over all golden vectors, as a share of the largest logit.
        executed: engine, device, precision and threads that really ran.
        damaged: one of its files is missing or was changed.
    """

    name: str
    ok: bool
    status: str
    golden_error: float | None = None
    executed: Executed | None = None
    damaged: bool = False


class SelfTest(msgspec.Struct, frozen=True):
    """What a machine says of a bundle.

    Attributes:
        files: that the manifest lists.
        runs: the variant that would answer here, or None.
        pixel_error: of the preprocessing, in grey levels.
        damaged: what is wrong with the files that are not as they were written, a sentence each. A variant without
            damage runs all the same.
    """

    bundle: str
    identity: str
    cpu: Cpu
    files: int
    pixel_error: int
    runs: str | None
    variants: tuple[VariantCheck, ...]
    damaged: tuple[str, ...] = ()


def verify(folder: str | Path, threads: int | None = None) -> SelfTest:
    """Check every file's hash, the preprocessing, and every variant; any damage at all is refused.

    Raises:
        BundleError: the bundle is damaged.
    """
    bundle = open_bundle(folder)
    bundle.check_files()
    return self_test(bundle, threads)


def self_test(bundle: Bundle, threads: int | None = None) -> SelfTest:
    """The same, and what still runs where other files are damaged.

    Raises:
        BundleError: the manifest is another since the bundle was opened, or the golden vectors are damaged.
    """
    if open_bundle(bundle.folder).identity != bundle.identity:
        raise BundleError(f"{bundle.folder}: is another bundle than was opened; load it again")
    damaged = damaged_files(bundle)
    if GOLDEN_FILE in damaged:
        raise BundleError(damaged[GOLDEN_FILE])
    golden = read_golden(bundle)
    off = pixel_error(golden, bundle.manifest.preprocessing)
    threads = threads or bundle.manifest.threads
    order = in_order(bundle, remembered(bundle, threads))
    checks = tuple(_closed(*check_variant(bundle, golden, variant, threads)) for variant in order)
    runs = next((check.name for check in checks if check.ok), None) if off <= PIXEL_TOLERANCE else None
    files = len(bundle.manifest.files)
    return SelfTest(str(bundle.folder), bundle.identity, this_cpu(), files, off, runs, checks, tuple(damaged.values()))


def damaged_files(bundle: Bundle) -> dict[str, str]:
    """Hash every file; of those that are missing or changed, why."""
    damaged = {}
    for name in bundle.manifest.files:
        try:
            bundle.check(name)
        except BundleError as error:
            damaged[name] = str(error)
    return damaged


def check_variant(bundle: Bundle, golden: Golden, variant: Variant, threads: int) -> tuple[VariantCheck, Engine | None]:
    """Hold a variant against all its golden vectors; returns what came of it, and its engine where it runs."""
    try:
        engine, error = start_variant(bundle, golden, variant, threads, count=len(golden.inputs))
    except (BundleError, EngineError) as why:
        return VariantCheck(variant.name, False, str(why), damaged=isinstance(why, BundleError)), None
    return VariantCheck(variant.name, True, "ok", error, engine.executed), engine


def _closed(check: VariantCheck, engine: Engine | None) -> VariantCheck:
    if engine is not None:
        engine.close()
    return check
