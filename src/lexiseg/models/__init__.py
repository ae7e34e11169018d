"""Models behind two small protocols, and where their weights come from."""

from __future__ import annotations

import os

from lexiseg.machine import choose_waiting

# Health data: whatever library is loaded below must not report what it is used for.  The hub's client reads
# this once, when it is imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

# torch reads how its threads shall wait once, when it is imported.
choose_waiting()
