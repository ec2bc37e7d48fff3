"""No usage report leaves this machine: imported before any engine is.

ONNX Runtime queues and uploads events unless this variable is set before its import
(``disable_telemetry_events`` comes too late). OpenVINO and NNCF report through a package of their own, and do without
it where it cannot be imported: to Python, a module that is None cannot. FastAPI sends traces of requests where a
variable asks for it.

The rest are for training. MLflow sends which of its functions are called, unless told not to before its import (of
DO_NOT_TRACK it knows the value ``true`` alone). huggingface_hub, through which timm downloads, names torch's version in
its requests. wandb sends its own faults to its makers. lightning, torchmetrics, timm, kornia, grad-cam and TensorBoard
report nothing.
"""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["FASTAPI_OTEL_AUTO_CONFIGURE"] = "false"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["WANDB_ERROR_REPORTING"] = "false"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
