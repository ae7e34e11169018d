"""The layers of a breast under the probe, and what a beam loses on its way through them."""

from __future__ import annotations

import numpy as np

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import (
    band,
    mix,
    ridges,
    smooth_curve,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.toolbox.ultrasound import envelope, log_compress
from lexiseg.scans.scan import BoolArray, FloatArray


def row_depth(rows: int) -> FloatArray:
    """Depth of the rows' middles, 0 at the probe, 1 at the bottom: float32 (rows, 1)."""
    return np.asarray((np.arange(rows) + 0.5) / rows, np.float32)[:, None]


def draw_layers(draw: Draw) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Mean echo in dB, float32 (H, W), and the masks of the layers from the skin to the chest wall."""
    rows, columns = draw.shape
    depth = row_depth(rows)
    tilt = np.linspace(-1, 1, columns, dtype=np.float32) * draw.uniform(-0.07, 0.07)

    def border(at: float, wobble: float, cells: float) -> FloatArray:
        return np.asarray(at + tilt + wobble * smooth_curve(draw.rng, columns, cells), np.float32)

    skin = draw.uniform(0.015, 0.06) + 0.003 * smooth_curve(draw.rng, columns, 4)
    gland = np.maximum(border(draw.uniform(0.12, 0.42), 0.04, 5), skin + 0.03)
    muscle = np.maximum(border(draw.uniform(0.55, 0.95), 0.03, 4), gland + 0.1)
    wall = np.maximum(border(draw.uniform(0.85, 1.25), 0.02, 3), muscle + 0.08)

    lobes = smooth_noise(draw.rng, draw.shape, (6, 4))
    warp = np.float32(0.6) * smooth_noise(draw.rng, draw.shape, (4, 3))
    septa = smooth_noise(draw.rng, draw.shape, (draw.uniform(9, 17), draw.uniform(2.5, 6))) + warp
    fine = smooth_noise(draw.rng, draw.shape, (draw.uniform(26, 44), draw.uniform(6, 12))) + warp
    finer = smooth_noise(draw.rng, draw.shape, (draw.uniform(55, 80), draw.uniform(14, 24)))
    strands = smooth_noise(draw.rng, draw.shape, (draw.uniform(24, 40), 2.5)) + warp
    # Fibres: thin bright lines of two scales, brighter where they happen to lie together.
    fibres = ridges(fine, 0.3) * np.clip(0.55 + 0.45 * finer, 0, 2) + 0.35 * ridges(finer, 0.4)

    fat = draw.uniform(-23, -17) + 1.5 * lobes + draw.uniform(7, 13) * ridges(septa, 0.16) * (0.3 + fibres)
    fat += draw.uniform(0, 5) * fibres
    glandular = draw.uniform(-16, -11) + 2.5 * lobes + draw.uniform(6, 11) * fibres
    glandular -= draw.uniform(0, 7) * soft_below(lobes, -0.7, 0.6)
    muscular = (
        draw.uniform(-25, -16) + draw.uniform(5, 11) * ridges(strands, 0.3) * (0.4 + fibres) + 2 * lobes
    )

    db = mix(-9 + 4 * finer, fat, soft_below(skin, depth, 0.008))
    db = mix(db, glandular, soft_below(gland + 0.02 * lobes, depth, 0.05))
    db = mix(db, muscular, soft_below(muscle + 0.01 * fine, depth, 0.05))
    db = mix(db, -30 + 3 * lobes, soft_below(wall, depth, 0.02))
    fascia = np.clip(0.3 + 0.7 * fibres + 0.4 * lobes, 0, 1.5)
    db += draw.uniform(3, 11) * band(depth, muscle, 0.008) * fascia
    db += draw.uniform(3, 8) * band(depth, skin, 0.006)
    masks = {
        "skin": depth < skin,
        "fat": (depth >= skin) & (depth < gland),
        "fibroglandular tissue": (depth >= gland) & (depth < muscle),
        "pectoral muscle": (depth >= muscle) & (depth < wall),
    }
    return db, {name: mask for name, mask in masks.items() if mask.any()}


def attenuate(draw: Draw, db: FloatArray) -> FloatArray:
    """Echo in dB after attenuation, time gain, the focus and poor contact of some of the probe's elements."""
    rows, columns = draw.shape
    depth = row_depth(rows)
    focus, loss = draw.uniform(0.2, 0.6), draw.uniform(2, 16)
    db = db - np.float32(loss / (1 - focus)) * np.maximum(depth - np.float32(focus), 0)
    db = db + draw.uniform(0, 5) * band(depth, focus, 0.25)
    contact = np.minimum(smooth_curve(draw.rng, columns, draw.uniform(3, 9)) + np.float32(1.6), 0)
    db = db + np.float32(draw.uniform(2, 9)) * contact * (0.4 + depth)
    edge = np.linspace(-1, 1, columns, dtype=np.float32) ** 4
    return np.asarray(db - np.float32(draw.uniform(0, 8)) * edge * depth, np.float32)


def develop(draw: Draw, db: FloatArray) -> FloatArray:
    """Brightness, float32 (H, W) in [0, 1]: speckle, compression, a display curve, ringing at the probe."""
    rows = draw.shape[0]
    psf = (max(0.5, draw.uniform(0.002, 0.004) * rows), max(0.8, draw.uniform(0.006, 0.012) * rows))
    echo = envelope(draw.rng, db, psf=psf, looks=int(draw.rng.integers(2, 6)))
    echo *= np.float32(10 ** (draw.uniform(-9, 3) / 20))
    pixels = log_compress(echo, dynamic_range=draw.uniform(42, 58)) ** np.float32(draw.uniform(1.1, 2.0))
    ringing = draw.uniform(0.3, 0.8) * band(row_depth(rows), 0.0, draw.uniform(0.004, 0.015))
    return np.asarray(np.clip(np.maximum(pixels, ringing), 0, 1), np.float32)
