"""Does this bundle run faithfully on this machine? Every file, and every variant against its golden vectors."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .bundle import open_bundle
from .engines import Executed
from .errors import EngineError
from .golden import PIXEL_TOLERANCE, pixel_error, read_golden
from .hardware import Cpu, this_cpu
from .predictor import by_preference, start_variant


class VariantCheck(msgspec.Struct, frozen=True):
    """One variant on this machine.

    Attributes:
        status: ``ok``, or why it is not run here.
        golden_error: largest logit difference over all golden vectors, as a share of the largest logit.
        executed: engine, device, precision and threads that really ran.
    """

    name: str
    ok: bool
    status: str
    golden_error: float | None = None
    executed: Executed | None = None


class SelfTest(msgspec.Struct, frozen=True):
    """What a machine says of a bundle.

    Attributes:
        runs: the variant that would answer here, or None.
        pixel_error: of the preprocessing, in grey levels.
    """

    bundle: str
    identity: str
    cpu: Cpu
    files: int
    pixel_error: int
    runs: str | None
    variants: tuple[VariantCheck, ...]


def verify(folder: str | Path, threads: int | None = None) -> SelfTest:
    """Check every file's hash, the preprocessing, and every variant.

    Raises:
        BundleError: the bundle is damaged.
    """
    bundle = open_bundle(folder)
    bundle.check_files()
    golden = read_golden(bundle)
    preprocessing = bundle.manifest.preprocessing
    off = pixel_error(golden, preprocessing)
    checks = []
    for variant in by_preference(bundle):
        try:
            engine, error = start_variant(
                bundle, golden, variant, threads or bundle.manifest.threads, count=len(golden.inputs)
            )
        except EngineError as why:
            checks.append(VariantCheck(variant.name, False, str(why)))
            continue
        checks.append(VariantCheck(variant.name, True, "ok", error, engine.executed))
        engine.close()
    runs = next((check.name for check in checks if check.ok), None) if off <= PIXEL_TOLERANCE else None
    return SelfTest(str(folder), bundle.identity, this_cpu(), len(bundle.manifest.files), off, runs, tuple(checks))
