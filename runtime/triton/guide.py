"""The README of a Triton model repository: what is in it, how to ask it, and what it should answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ..bundle import Bundle
from ..golden import TOLERANCE, Golden
from .config import PREFIX, SAMPLE, WARMUP

if TYPE_CHECKING:
    from .repository import Served

README = "README.md"

_TEXT = """# {title}, for Triton Inference Server

Research use only. Written by `medcompress export` from the bundle with identity
`{identity}`.
Its verdict is **{verdict}**: {reason}

    tritonserver --model-repository=FOLDER

| model | variant | backend | device | batch | its golden answers, where it was exported |
|---|---|---|---|---|---|
{rows}
{notes}
## What goes in, what comes out

A tensor goes in, not an image: {kind}, {shape}, prepared by `medcompress.runtime` and by nothing
else: another resize, or another window of a DICOM file, changes answers more than INT8 does. Raw outputs come out, in
the order of `labels.txt`; they become probabilities and an answer by the decision that is locked in the bundle. Both
are in the model's configuration, where this client finds them (`pip install medcompress 'tritonclient[http]'`):

```python
{client}```

Triton's own classification extension knows neither temperature nor threshold: its first class is not the answer.

No server does what the bundle's own runtime does beside that: it refuses images the model was not made for, tests
itself against the golden vectors at start, draws heat maps and keeps an audit log.

## Is it the same model?

`{sample}` is an input of the bundle's self-test and shows no patient. In each model's folder:

{asked}
## How fast?

{perf}"""

_CLIENT = """import msgspec, numpy, tritonclient.http
from medcompress.runtime import Preprocessing
from medcompress.runtime.decision import Decision

client = tritonclient.http.InferenceServerClient("localhost:8000")
meaning = client.get_model_config("{name}")["parameters"]
preprocessing = msgspec.json.decode(meaning["{prefix}preprocessing"]["string_value"], type=Preprocessing)
decision = msgspec.json.decode(meaning["{prefix}decision"]["string_value"], type=Decision)

tensor = preprocessing("radiograph.png")[None].astype(numpy.{dtype})
image = tritonclient.http.InferInput("{input}", tensor.shape, "{kind}")
image.set_data_from_numpy(tensor)
logits = client.infer("{name}", [image]).as_numpy("{output}")
probabilities = decision.probabilities(logits)
for name, probability, yes in zip(decision.classes, probabilities[0], decision.answers(probabilities)[0]):
    print(name, round(probability, 4), "<- the answer" if yes else "")
"""
_DTYPES = {"FP32": "float32", "FP16": "float16"}


def guide(bundle: Bundle, golden: Golden, models: Sequence[Served]) -> str:
    """The text, as Markdown.

    Args:
        models: at least one; the examples are of the first.
    """
    manifest = bundle.manifest
    first = models[0]
    channels, height, width = manifest.preprocessing.shape
    return _TEXT.format(
        title=bundle.folder.absolute().name,
        identity=bundle.identity,
        verdict=manifest.verdict,
        reason=manifest.reason,
        rows="\n".join(_row(model) for model in models),
        notes="".join(f"\n{model.name}: {model.note}.\n" for model in models if model.note),
        kind=_DTYPES[first.kind],
        shape=f"(images, {channels}, {height}, {width})",
        client=_client(first),
        sample=f"{WARMUP}/{SAMPLE}",
        asked="\n".join(_ask(bundle, golden, model) for model in models),
        perf="\n".join(_perf(model, (channels, height, width)) for model in models) + "\n",
    )


def _row(model: Served) -> str:
    batch = f"up to {model.max_batch_size}, put together by the server" if model.max_batch_size else "the client's own"
    return f"| {model.name} | {model.variant} | {model.backend} | {model.device} | {batch} | {model.checked} |"


def _client(model: Served) -> str:
    return _CLIENT.format(**msgspec.structs.asdict(model), dtype=_DTYPES[model.kind], prefix=PREFIX)


def _ask(bundle: Bundle, golden: Golden, model: Served) -> str:
    """https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html"""
    shape = ",".join(map(str, (1, *bundle.manifest.preprocessing.shape)))
    size = model.sample_bytes
    header = (
        f'{{"inputs":[{{"name":"{model.input}","shape":[{shape}],"datatype":"{model.kind}",'
        f'"parameters":{{"binary_data_size":{size}}}}}]}}'
    )
    variant = bundle.manifest.variant(model.variant)
    expected = ", ".join(f"{value:.6g}" for value in golden.logits[variant.name][0].tolist())
    return f"""    (printf '%s' '{header}'; cat {WARMUP}/{SAMPLE}) |
    curl -s localhost:8000/v2/models/{model.name}/infer --data-binary @- \\
      -H 'Content-Type: application/octet-stream' -H 'Inference-Header-Content-Length: {len(header)}'

gives `{expected}`, within {TOLERANCE[variant.precision]:g} of the largest of its outputs (at least 1).
"""


def _perf(model: Served, shape: Sequence[int]) -> str:
    """https://github.com/triton-inference-server/perf_analyzer/blob/main/docs/cli.md"""
    given = "" if model.max_batch_size else f" --shape {model.input}:{','.join(map(str, (1, *shape)))}"
    return f"    perf_analyzer -m {model.name}{given} --concurrency-range 1:8 --percentile 99"
