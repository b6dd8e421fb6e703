"""The engine that runs transformers models in this process."""

import readthrough.runtime  # noqa: F401  sets the environment before any module here imports torch
