"""Figures that this project measured itself, by row and length in tokens.

Written by ``scripts/docs`` from the tables in docs/length.md and models/demo/README.md; change those, not this.
"""

from __future__ import annotations

__all__ = ["DEMO_FACTS", "DEMO_LOSS", "STORIES_LOSS"]

#: Nats a token, demo model.
DEMO_LOSS: dict[str, dict[int, float]] = {
    "none": {512: 1.499, 1024: 1.826, 2048: 2.244, 4096: 2.904},
    "ntk × 8": {512: 1.539, 1024: 1.647, 2048: 1.664, 4096: 1.92},
    "yarn × 8": {512: 1.617, 1024: 1.711, 2048: 1.751, 4096: 1.745},
    "dynamic-ntk": {512: 1.499, 1024: 1.644, 2048: 1.726, 4096: 1.92},
    "yarn --dynamic": {512: 1.499, 1024: 1.62, 2048: 1.823, 4096: 1.745},
}

#: Nats a token, stories260K.
STORIES_LOSS: dict[str, dict[int, float]] = {
    "none": {512: 1.686, 1024: 1.743, 2048: 2.031, 4096: 5.44},
    "ntk × 8": {512: 2.075, 1024: 2.112, 2048: 2.292, 4096: 2.912},
    "yarn × 8": {512: 3.159, 1024: 3.218, 2048: 3.253, 4096: 3.368},
    "dynamic-ntk": {512: 1.686, 1024: 1.712, 2048: 1.977, 4096: 2.912},
    "yarn --dynamic": {512: 1.686, 1024: 1.709, 2048: 2.07, 4096: 3.368},
}

#: Share of facts found, demo model.
DEMO_FACTS: dict[str, dict[int, float]] = {
    "none": {512: 0.999, 1024: 0.866, 2048: 0.432},
    "linear × 2": {512: 0.092, 1024: 0.06},
    "ntk × 2": {512: 1.0, 1024: 0.992},
    "yarn × 2": {512: 0.998, 1024: 1.0},
    "linear × 4": {512: 0.008, 1024: 0.0, 2048: 0.004},
    "ntk × 4": {512: 1.0, 1024: 1.0, 2048: 0.95},
    "yarn × 4": {512: 0.982, 1024: 0.98, 2048: 0.996},
    "uniform 1.2 from layer 2": {512: 1.0, 1024: 0.942},
    "uniform 1.5 from layer 2": {512: 0.586, 1024: 0.476},
    "ms-poe 1.2-1.8 on all pairs, in order": {512: 1.0, 1024: 0.944, 2048: 0.556},
}
