"""How the figures of the report look."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def tidy(canvas: "Figure") -> None:
    """Quiet axes: no frame above and to the right, small ticks and letters."""
    for ax in canvas.axes:
        ax.spines[["top", "right"]].set_visible(False)
        for side in ("left", "bottom"):
            ax.spines[side].set(color="0.6", linewidth=0.7)
        ax.tick_params(labelsize=9, color="0.6", width=0.7, length=3)
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set_fontsize(9.5)
        legend = ax.get_legend()
        for text in [*(legend.get_texts() if legend else []), ax.title]:
            text.set_fontsize(9.5)
