"""No usage report leaves this machine: imported before any engine is.

ONNX Runtime queues and uploads events unless this variable is set before its import
(``disable_telemetry_events`` comes too late). OpenVINO and NNCF report through a package of their own, and do without
it where it cannot be imported: to Python, a module that is None cannot.
"""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
