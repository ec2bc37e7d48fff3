"""A Triton model repository of a bundle: one model a backend, each with its configuration and a warm-up sample.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html

    README.md                   what is served, how to ask it, and what it should answer
    NAME-VARIANT/config.pbtxt
    NAME-VARIANT/labels.txt     the classes, in the order of the outputs
    NAME-VARIANT/warmup/image.bin
    NAME-VARIANT/1/model.onnx   or model.xml and model.bin, or model.plan

Only what a bundle proved is exported, and only after every file of it was checked. A server knows nothing of that
proof: which CPU a variant needs, its golden vectors and the input guard stay with whoever runs it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..bundle import Bundle, Variant
from ..errors import BundleError, EngineError, InputError, MachineError
from ..golden import Golden, read_golden
from ..requirements import DEVICES
from ..variants import by_preference, start_variant
from .config import BACKENDS, LABELS, MAX_BATCH, SAMPLE, WARMUP, Backend, backend_of, batched, config_text
from .graph import Graph, read_graph
from .guide import README, guide
from .plan import built_plan, plan_backend

PLAN = "model.plan"
_TYPES = {"FP32": "<f4", "FP16": "<f2"}
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Served(msgspec.Struct, frozen=True):
    """One Triton model.

    Attributes:
        name: of the model, by which it is asked.
        variant: of the bundle.
        backend: Triton's; ``device``: ``CPU`` or ``GPU``.
        max_batch_size: images the server puts together; 0: it does not, and a client sends the batch it likes.
        input, output: the tensors' names.
        kind: of the input's values, ``FP32`` or ``FP16``; ``sample_bytes``: size of the warm-up sample.
        checked: ``ok``: it ran on this machine and gave its golden answers, or why it was not run.
        note: what has to be known of it, or empty.
    """

    name: str
    variant: str
    backend: str
    device: str
    max_batch_size: int
    input: str
    output: str
    kind: str
    sample_bytes: int
    checked: str
    note: str = ""


class Repository(msgspec.Struct, frozen=True):
    """What was written, and of which bundle."""

    repository: str
    bundle: str
    identity: str
    models: tuple[Served, ...]


def export(
    bundle: Bundle, out: Path, variants: Sequence[str] = (), name: str = "", max_batch: int = MAX_BATCH
) -> Repository:
    """Write a model repository, whole or not at all.

    Args:
        out: the folder to make.
        variants: names of those to export; none takes, for each engine, the one the bundle prefers.
        name: the first part of the models' names; empty takes the name of the bundle's folder.
        max_batch: images a server may put together.

    Raises:
        InputError: ``out`` is there, no such variant, or none that a backend of Triton runs.
        BundleError: the bundle is damaged.
        EngineAbsent: a model of OpenVINO, and OpenVINO is not installed.
        MachineError: ``out`` cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: is there already; give another --out, or remove it")
    chosen = _chosen(bundle, variants)
    bundle.check_files()
    golden = read_golden(bundle)
    prefix = _SAFE.sub("-", name or bundle.folder.absolute().name).strip("-.") or "model"
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        models = tuple(_write(bundle, golden, each, unfinished, prefix, max_batch) for each in chosen)
        (unfinished / README).write_text(guide(bundle, golden, models), encoding="utf-8")
        unfinished.rename(out)
    except OSError as error:
        raise MachineError(f"{out}: cannot be written ({error.strerror}); give another --out") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Repository(str(out), str(bundle.folder), bundle.identity, models)


def _chosen(bundle: Bundle, names: Sequence[str]) -> list[Variant]:
    known = [bundle.manifest.variant(name) for name in names] or by_preference(bundle)
    unserved = [variant.name for variant in known if variant.engine not in BACKENDS]
    served = [variant for variant in known if variant.engine in BACKENDS]
    if not served or (names and unserved):
        raise InputError(
            f"{bundle.folder}: no backend of Triton runs {', '.join(unserved)}; export variants of: "
            f"{', '.join(BACKENDS)}"
        )
    if names:
        return served
    first: dict[str, Variant] = {}
    for variant in served:
        first.setdefault(variant.engine, variant)
    return list(first.values())


def _write(bundle: Bundle, golden: Golden, variant: Variant, folder: Path, prefix: str, max_batch: int) -> Served:
    backend = backend_of(variant)
    model = folder / f"{prefix}-{_SAFE.sub('-', variant.name)}"
    version = model / "1"
    version.mkdir(parents=True)
    with bundle.checked(variant.files) as files:
        # A backend finds weights that lie apart by the model's name.
        copies = [shutil.copyfile(file, version / f"model{file.suffix}") for file in files]
    graph, file = read_graph(copies[0]), copies[0].name
    _check_shapes(bundle, variant, graph)
    plan = built_plan(copies[0], variant.precision) if variant.engine == "tensorrt" else None
    if plan is not None:
        record, data = plan
        copies[0].unlink()
        file = PLAN
        (version / file).write_bytes(data)
        backend, max_batch = plan_backend(record), min(max_batch, record.key.profiles[-1][2])
    text = config_text(model.name, bundle, variant, backend, graph, file, max_batch)
    (model / "config.pbtxt").write_text(text, encoding="ascii")
    (model / LABELS).write_text("".join(f"{name}\n" for name in bundle.manifest.decision.classes), encoding="utf-8")
    (model / WARMUP).mkdir()
    size = (model / WARMUP / SAMPLE).write_bytes(_sample(bundle, golden, graph))
    return Served(
        name=model.name,
        variant=variant.name,
        backend=backend.name + (f" ({backend.accelerator})" if backend.accelerator else ""),
        device="GPU" if backend.on_gpu else "CPU",
        max_batch_size=max_batch if batched(backend, graph) else 0,
        input=graph.image.name,
        output=graph.logits.name,
        kind=graph.image.kind,
        sample_bytes=size,
        checked=_run(bundle, golden, variant),
        note=_note(variant, backend),
    )


def _sample(bundle: Bundle, golden: Golden, graph: Graph) -> bytes:
    """The first golden input, which shows no patient, as a server takes it: row by row, little-endian."""
    tensor = bundle.manifest.preprocessing.normalize(golden.inputs[0])
    return tensor.astype(np.dtype(_TYPES[graph.image.kind])).tobytes()


def _check_shapes(bundle: Bundle, variant: Variant, graph: Graph) -> None:
    manifest = bundle.manifest
    image, logits = graph.image.shape[1:], graph.logits.shape[1:]
    if image != manifest.preprocessing.shape or logits != (len(manifest.decision.classes),):
        raise BundleError(
            f"{bundle.folder}: {variant.name} takes images {image} and gives {logits} values, which is not what its "
            "manifest says; make the bundle again"
        )
    if not {graph.image.kind, graph.logits.kind} <= set(_TYPES):
        raise BundleError(f"{bundle.folder}: {variant.name} takes {graph.image.kind}, which is no float")


def _run(bundle: Bundle, golden: Golden, variant: Variant) -> str:
    """All golden inputs in one batch, on this machine, which need not be the server's."""
    try:
        engine, _ = start_variant(bundle, golden, variant, bundle.manifest.threads, count=len(golden.inputs))
    except EngineError as error:
        return f"not run here: {error}"
    engine.close()
    return "ok"


def _note(variant: Variant, backend: Backend) -> str:
    features = [name for name in variant.requires if name not in DEVICES]
    needs = f"needs a CPU with {', '.join(features)}, which no server checks" if features else ""
    return "; ".join(filter(None, (needs, backend.note)))
