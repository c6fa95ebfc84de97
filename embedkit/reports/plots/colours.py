"""The colours of plots: each has a contrast of three to one on a light page and on a dark one."""

MAIN, OTHER, BACK = "#3a80c9", "#d2701f", "#7b8794"
"""Of what a chart is about, of what stands out in it, and of what it is held against."""

GROUPS = (
    MAIN,
    OTHER,
    "#2f9461",
    "#a35fbd",
    "#d8504a",
    "#1f94a8",
    "#a07744",
    "#d2589a",
    "#84892a",
)
"""Of groups, told apart by those who see few colours as far as so many can be."""

STEPS = (
    "#5460c0",
    "#4474c4",
    "#3586bd",
    "#2b96ab",
    "#2fa28d",
    "#55a968",
    "#84a845",
    "#b3a02f",
    "#d8922b",
)
"""Of the steps of a scale, from its low end."""
