"""nnU-Net: its plans, trained folders of E2ENets, and a trainer for its own training loop.

`TRAINERS` is the folder that the environment variable `nnUNet_extTrainer` has to name.
"""

from __future__ import annotations

from pathlib import Path

TRAINERS = Path(__file__).with_name("trainers")
