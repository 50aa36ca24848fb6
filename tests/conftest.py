"""What every test may rely on: the Hub is out of reach, and the builders of tiny models can be imported anywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # huggingface_hub reads it once, when it is imported

sys.path.insert(0, str(Path(__file__).parent / "hubmerge"))  # tests/laws imports the builders (zoo.py) from there
