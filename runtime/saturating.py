"""Does ONNX Runtime add 8-bit products exactly on this CPU, or does it cut them off at 16 bits? Asked by trying.

A CPU's flags can be hidden, invented or not readable (virtual machines, emulators, Windows); one product of two numbers
cannot lie. Without VNNI, ONNX Runtime's kernels on x86 add two neighbouring u8 x s8 products in 16 bits with saturation
(``vpmaddubsw``), so 255 * 127 + 255 * 127 comes out as 32767.
"""

from __future__ import annotations

import base64
from functools import lru_cache

import numpy as np

# MatMulInteger of a u8 input "a" (1, 2) and the s8 weight (127, 127); the tests build it anew with onnx.
PROBE = base64.b64decode(
    "CAgSADpWChgKAWEKAXcSAXkiDU1hdE11bEludGVnZXISAXAqDQgCCAEQA0IBd0oCf39aEwoBYRIOCgwIAhIICgIIAQoCCAJiEwoBeRIOCgwIBhIICgII"
    "AQoCCAFCBAoAEAo="
)


@lru_cache(maxsize=1)
def adds_exactly() -> bool:
    """Whether a full-range INT8 variant of ONNX Runtime is faithful here; a fraction of a millisecond, once a process.

    True on CPUs with VNNI, and on ARM, whose dot products are 32 bits wide.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(PROBE, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": np.full((1, 2), 255, np.uint8)})
    return int(np.asarray(found).item()) == 2 * 255 * 127
