"""How torch's CPU threads wait for each other; imported before torch.

By default OpenMP's threads spin. When another process wants the cores, spinning threads starve the one that they wait
for: a training step on 2 busy cores took 40 times as long. Set OMP_WAIT_POLICY yourself to decide otherwise.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
