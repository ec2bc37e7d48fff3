"""Does this bundle run faithfully here? Every file, and every variant against its golden vectors and maps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .bundle import GOLDEN_FILE, Bundle, Variant, open_bundle, read_manifest
from .checks import VariantCheck, check_variant
from .errors import BundleError, EngineError, MachineError
from .golden import PIXEL_TOLERANCE, Golden, pixel_error, read_golden
from .hardware import Cpu, this_cpu
from .placement import in_order, remembered
from .signing import signatures_of
from .trial import check_apart
from .variants import Running, golden_error

__all__ = ["SelfTest", "VariantCheck", "damaged_files", "self_test", "verify"]


class SelfTest(msgspec.Struct, frozen=True):
    """What a machine says of a bundle.

    Attributes:
        files: that the manifest lists.
        runs: the variant that would answer here, or None.
        pixel_error: of the preprocessing, in grey levels.
        damaged: what is wrong with the files that are not as they were written, a sentence each. A variant without
            damage runs all the same.
        signer: name of the trusted key it is signed with; empty where no key is trusted here.
        signatures: names of the keys it claims to be signed with.
    """

    bundle: str
    identity: str
    cpu: Cpu
    files: int
    pixel_error: int
    runs: str | None
    variants: tuple[VariantCheck, ...]
    damaged: tuple[str, ...] = ()
    signer: str = ""
    signatures: tuple[str, ...] = ()


def verify(folder: str | Path, threads: int | None = None) -> SelfTest:
    """Check every file's hash, the preprocessing, and every variant; any damage at all is refused.

    Raises:
        BundleError: the bundle is damaged.
    """
    bundle = open_bundle(folder)
    bundle.check_files()
    return self_test(bundle, threads)


def self_test(bundle: Bundle, threads: int | None = None, running: Running | None = None) -> SelfTest:
    """The same, and what still runs where other files are damaged.

    The variants are loaded in a process of their own, so that one that crashes costs itself alone.

    Args:
        bundle: opened.
        threads: of one inference; None takes the number the bundle was measured with.
        running: a variant that answers already: its own engine is asked too, and has the last word.

    Raises:
        BundleError: the manifest is another since the bundle was opened, or the golden vectors are damaged.
    """
    if hashlib.sha256(read_manifest(bundle.folder)).hexdigest() != bundle.identity:
        raise BundleError(f"{bundle.folder}: is another bundle than was opened; load it again")
    damaged = damaged_files(bundle)
    if GOLDEN_FILE in damaged:
        raise BundleError(damaged[GOLDEN_FILE])
    golden = read_golden(bundle)
    off = pixel_error(golden, bundle.manifest.preprocessing)
    threads = threads or bundle.manifest.threads
    order = in_order(bundle, remembered(bundle, threads))
    checks = _checks(bundle, golden, order, threads)
    if running is not None and not damaged.keys() & set(running.variant.files):
        asked = running.variant.name
        checks = tuple(_asked(each, bundle, golden, running) if each.name == asked else each for each in checks)
    runs = next((check.name for check in checks if check.ok), None) if off <= PIXEL_TOLERANCE else None
    return SelfTest(
        bundle=str(bundle.folder),
        identity=bundle.identity,
        cpu=this_cpu(),
        files=len(bundle.manifest.files),
        pixel_error=off,
        runs=runs,
        variants=checks,
        damaged=tuple(damaged.values()),
        signer=bundle.signer,
        signatures=signatures_of(bundle.folder),
    )


def damaged_files(bundle: Bundle) -> dict[str, str]:
    """Hash every file; of those that are missing or changed, why."""
    damaged = {}
    for name in bundle.manifest.files:
        try:
            bundle.check(name)
        except BundleError as error:
            damaged[name] = str(error)
    return damaged


def _checks(bundle: Bundle, golden: Golden, order: Sequence[Variant], threads: int) -> tuple[VariantCheck, ...]:
    try:
        return check_apart(bundle, order, threads)
    except MachineError:  # where there is no interpreter, or no memory for a process more, it is done here
        return tuple(_here(bundle, golden, variant, threads) for variant in order)


def _here(bundle: Bundle, golden: Golden, variant: Variant, threads: int) -> VariantCheck:
    check, engine = check_variant(bundle, golden, variant, threads, heat=True)
    if engine is not None:
        engine.close()
    return check


def _asked(check: VariantCheck, bundle: Bundle, golden: Golden, running: Running) -> VariantCheck:
    """The check of a variant, by the engine that runs it: another may have failed for want of memory alone."""
    variant, engine = running.variant, running.engine
    try:
        error = golden_error(bundle, golden, variant, engine, count=len(golden.inputs))
    except EngineError as why:
        return msgspec.structs.replace(check, ok=False, status=str(why), golden_error=None, executed=None)
    return msgspec.structs.replace(check, ok=True, status="ok", golden_error=error, executed=engine.executed)
