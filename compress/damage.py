"""Does the gate say no? One layer of a bundle's INT8 form is damaged on purpose, and the gate is asked.

    python -m medcompress.compress.damage BUNDLE --data FOLDER_PER_CLASS [--loss 0.05]

Random numbers (seeded) are added to the first convolution's INT8 weights, more and more, until sensitivity has fallen
by about ``--loss``. Prints the verdict on that form, on the reference under another name, and on the sound form and
the reference again by the first ten images of each class alone. Of two classes, and ONNX Runtime's INT8.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..benchmarks.bundle_benchmark import candidates
from ..benchmarks.candidate import Candidate
from ..benchmarks.data.labelled import Labelled, label_samples
from ..benchmarks.data.samples import find_samples, held_out_folder
from ..benchmarks.evaluation import Answers, Logits, answer
from ..benchmarks.row import Row
from ..benchmarks.timing.worker import Worker
from ..benchmarks.tolerance import Tolerance
from ..benchmarks.weighing import weigh
from ..runtime.bundle import Bundle, open_bundle
from .command import run

# Standard deviations of the noise, in steps of the INT8 weights, which run from -127 to 127.
SCALES = range(20, 125, 3)
FEW = 10


def damaged(bundle: Bundle, form: Candidate, base: Logits, test: Labelled, loss: float, folder: Path) -> Candidate:
    """The form with its first convolution damaged so that sensitivity comes nearest to falling by ``loss``."""
    manifest = bundle.manifest
    decision, c = manifest.decision, manifest.decision.positive_index

    def sensitivity(logits: Logits) -> float:
        return float(decision.answers(decision.probabilities(logits))[test.target[:, c] == 1, c].mean())

    model = onnx.load(form.files[0])
    kernels = (each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8)
    layer = next(each for each in kernels if len(each.dims) == 4)
    weights = numpy_helper.to_array(layer).copy()
    noise = np.random.default_rng(0).standard_normal(weights.shape)
    found: dict[float, Candidate] = {}
    for scale in SCALES:
        layer.CopyFrom(numpy_helper.from_array(np.clip(weights + scale * noise, -127, 127).astype(np.int8), layer.name))
        path = folder / f"damaged-{scale}.onnx"
        onnx.save(model, path)
        with Worker() as worker:
            worker.load(form.engine, (path,), form.precision, manifest.threads)
            fallen = sensitivity(base) - sensitivity(worker.run(test.rendered, manifest.preprocessing))
        found[abs(fallen - loss)] = Candidate("damaged", form.engine, form.precision, (path,))
        if fallen > loss + 0.02:
            break
    return found[min(found)]


def main() -> None:
    """Damage, ask and print."""
    parser = argparse.ArgumentParser(prog="python -m medcompress.compress.damage")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--loss", type=float, default=0.05, help="of sensitivity (%(default)s)")
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    manifest = bundle.manifest
    reference, decision = manifest.reference, manifest.decision
    forms = {form.name: form for form in candidates(bundle)}
    sound = next((each for each in forms.values() if (each.engine, each.precision) == ("onnxruntime", "int8")), None)
    if sound is None or decision.kind != "binary":
        parser.error(f"{given.bundle}: needs two classes and an INT8 form of ONNX Runtime that passed")
    samples = find_samples(held_out_folder(given.data), decision.classes)
    with tempfile.TemporaryDirectory(prefix="medcompress-") as scratch:
        npy = Path(scratch) / "images.npy"
        test = label_samples(samples, decision, manifest.preprocessing, npy, "Reading the images")
        base = answer([forms[reference]], reference, manifest.preprocessing, {"test": npy}, manifest.threads)
        bad = damaged(bundle, sound, base.logits["test"][reference], test, given.loss, Path(scratch))
        same = Candidate("identical", forms[reference].engine, forms[reference].precision, forms[reference].files)
        every = [forms[reference], sound, bad, same]
        found = answer(every, reference, manifest.preprocessing, {"test": npy}, manifest.threads)
        rows, _ = weigh(found, reference, decision, test, None, Tolerance())
        _print(f"{len(test)} images", rows)
        few = np.concatenate([np.flatnonzero(column == 1)[:FEW] for column in test.target.T])
        part = Labelled(npy, test.target[few], tuple(test.samples[place] for place in few))
        logits = {name: outputs[few] for name, outputs in found.logits["test"].items() if name != bad.name}
        rows, _ = weigh(Answers(found.rows, {"test": logits}), reference, decision, part, None, Tolerance())
        _print(f"{len(few)} images", [row for row in rows if row.name != bad.name])


def _print(title: str, rows: tuple[Row, ...] | list[Row]) -> None:
    print(title)
    for row in rows:
        print(f"  {row.name}: sensitivity {row.sensitivity:.3f}, {row.status}")


if __name__ == "__main__":
    run(main)
