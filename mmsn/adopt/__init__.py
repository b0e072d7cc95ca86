"""Give any mmseg config a stitched backbone, and report what had to change with it.

Dataset, schedule and kind of head stay as they are. What depends on the backbone follows: widths,
levels, the neck, normalization, learning rates by layer, hooks and loops. The result is built on
the meta device before it is returned, so what cannot work is refused here and not in a training.

Left out on purpose: learning rates and schedules, which are the user's; notes say where they are
unusual for plain ViTs.
"""

from mmsn.adopt.adopt import Adoption, adopt, find_config, parse_anchor
from mmsn.adopt.changes import Change

__all__ = ["Adoption", "Change", "adopt", "find_config", "parse_anchor"]
