"""The names of COCO's categories (https://cocodataset.org), by the numbers that its annotations give them."""

from __future__ import annotations

UNUSED = "N/A"
# Of 0 to 90: what annotations use are 80 of them.
_LINES = """
    N/A; person; bicycle; car; motorcycle; airplane; bus; train; truck; boat
    traffic light; fire hydrant; N/A; stop sign; parking meter; bench; bird; cat; dog; horse
    sheep; cow; elephant; bear; zebra; giraffe; N/A; backpack; umbrella; N/A
    N/A; handbag; tie; suitcase; frisbee; skis; snowboard; sports ball; kite; baseball bat
    baseball glove; skateboard; surfboard; tennis racket; bottle; N/A; wine glass; cup; fork; knife
    spoon; bowl; banana; apple; sandwich; orange; broccoli; carrot; hot dog; pizza
    donut; cake; chair; couch; potted plant; bed; N/A; dining table; N/A; N/A
    toilet; N/A; tv; laptop; mouse; remote; keyboard; cell phone; microwave; oven
    toaster; sink; refrigerator; N/A; book; clock; vase; scissors; teddy bear; hair drier
    toothbrush
"""
COCO_LABELS = tuple(name.strip() for line in _LINES.strip().splitlines() for name in line.split(";"))
