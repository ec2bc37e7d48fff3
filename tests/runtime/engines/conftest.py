"""What these tests share lies beside them: small_models.py, and the fakes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
