"""Pictures of how well a model answers: PNG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics.assessment import Figure
from ..statistics.judged import BINS, Judged, confusion, reliability
from .plot_style import COLOURS, COLUMNS, GREY, PALE, SIZE, png, short_name, square, within_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Callable[["Axes", Judged, int, str, bool], None]


def roc_plot(found: Judged, title: str) -> bytes:
    """ROC curve of the positive class, or of each class against the rest, with the operating point."""
    return _curves(found, f"ROC, {title}", "1 − specificity", "sensitivity", _roc, "AUROC")


def precision_recall_plot(found: Judged, title: str) -> bytes:
    """Precision over sensitivity with the operating point; dotted, the share that have the class, where it is one."""
    return _curves(
        found, f"Precision and recall, {title}", "recall (sensitivity)", "precision", _pr, "average precision"
    )


def confusion_plot(found: Judged, title: str) -> bytes:
    """Counts, shaded by the share of the row's truth; of findings one small matrix each."""
    matrices = confusion(found)
    if found.decision.kind != "multilabel":
        names = list(found.decision.classes)
        panels = [(title, names, np.array(matrices[0] if matrices else np.zeros((len(names),) * 2, int)))]
    else:
        panels = [
            (name, ["absent", "present"], np.array(matrix))
            for name, matrix in zip(found.decision.classes, matrices or [((0, 0),) * 2] * 99, strict=False)
        ]

    def draw(axes: Sequence[Axes]) -> None:
        for place, (ax, (name, labels, counts)) in enumerate(zip(axes, panels, strict=True)):
            _matrix(ax, labels, counts, small=len(panels) > 1)
            small: dict[str, Any] = {} if len(panels) == 1 else {"fontsize": 8}
            ax.set_title(f"Confusion, {title}" if len(panels) == 1 else short_name(name, 20), **small)
            if place % COLUMNS == 0:
                ax.set_ylabel("truth", **small)
            ax.set_xlabel("answer" if place >= len(panels) - COLUMNS else "", **small)

    return png(draw, len(panels), f"Confusion, {title}" if len(panels) > 1 else "")


def reliability_plot(found: Judged, title: str) -> bytes:
    """Share of true ones over the predicted probability, in bins of equally many images; the diagonal is right."""
    parts = reliability(found)
    multiclass = found.decision.kind == "multiclass"
    names = ["answer"] if multiclass else [found.decision.classes[c] for c in found.columns]

    def draw(axes: Sequence[Axes]) -> None:
        for place, (ax, name) in enumerate(zip(axes, names, strict=True)):
            part = parts.get(place)
            ax.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
            if part is not None:
                rows = [part.bin == b for b in np.unique(part.bin)]
                x = [part.probability[row].mean() for row in rows]
                y = [part.outcome[row].mean() for row in rows]
                ax.plot(x, y, "o-", color=COLOURS[0], markersize=4.5, clip_on=False, zorder=3)
            square(ax, len(names) > 1)
            if len(names) > 1:
                ax.set_title(short_name(name, 20), fontsize=8)
                ax.set_xlabel("predicted" if place >= len(names) - COLUMNS else "")
                ax.set_ylabel("share present" if place % COLUMNS == 0 else "")
            else:
                ax.set_title(f"Reliability, {title}")
                what = "of the answer" if multiclass else f"of {short_name(names[0])}"
                ax.set_xlabel(f"mean predicted probability {what}")
                ax.set_ylabel("share of right answers" if multiclass else f"share that have {short_name(names[0])}")
                note = f"{len(found)} images, {BINS} bins of equally many"
                ax.text(0.98, 0.03, note, transform=ax.transAxes, ha="right", color=GREY, fontsize=9)

    return png(draw, len(names), f"Reliability, {title}" if len(names) > 1 else "")


def learning_plot(history: Sequence[Mapping[str, float | None]], best_epoch: int, title: str) -> bytes:
    """Losses, and what validation says, over the epochs; the epoch that was kept is marked.

    Args:
        history: a row an epoch: ``epoch``, ``loss``, ``val_loss``, and ``val_`` figures between 0 and 1.
    """
    epochs = np.array([row["epoch"] for row in history], dtype=np.float64)
    known = {name for row in history for name in row}
    losses = [name for name in ("loss", "val_loss") if name in known]
    figures = [name for name in ("val_auroc", "val_accuracy", "val_balanced_accuracy") if name in known]
    labels = {"loss": "training", "val_loss": "validation"}

    def draw(axes: Sequence[Axes]) -> None:
        from matplotlib.ticker import MaxNLocator

        for ax, names in zip(axes, (losses, figures), strict=True):
            shown: list[float] = []
            for colour, name in zip(COLOURS[1::-1] if names is losses else COLOURS[1:], names, strict=False):
                y = np.array([row.get(name) for row in history], dtype=np.float64)  # None becomes NaN: a gap
                label = labels.get(name) or name.removeprefix("val_").replace("_", " ").replace("auroc", "AUROC")
                ax.plot(epochs, y, color=colour, label=label, marker="o", markersize=3, clip_on=False)
                shown += y[np.isfinite(y)].tolist()
            if best_epoch:
                ax.axvline(best_epoch, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="epoch kept")
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(epochs) == 1:
                ax.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
            if shown:
                ax.set_ylim(*((0, 1.08 * max(shown) or 1) if names is losses else within_unit(shown)))
            if names:
                ax.legend(fontsize=9)
        axes[0].set_ylabel("loss")
        axes[0].set_title("Loss")
        axes[1].set_title("Validation")
        axes[1].set_ylabel("0 to 1")

    return png(draw, 2, f"Learning curves, {title}", columns=2, height=SIZE[1] * 0.8)


def comparison_plot(rows: Sequence[tuple[str, Figure]], figure: str, title: str) -> bytes:
    """One figure of several runs with its interval, the first row on top."""

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        for place, (_, found) in enumerate(rows):
            if found.value is None:
                ax.text(0.5, place, found.reason, transform=ax.get_yaxis_transform(), ha="center", color=GREY)
                continue
            if found.low is not None and found.high is not None:
                limits: dict[str, Any] = {"linewidth": 2.4, "alpha": 0.55, "clip_on": False}
                ax.plot([found.low, found.high], [place, place], color=COLOURS[0], **limits)
            ax.plot(found.value, place, "o", color=COLOURS[0], markersize=7, clip_on=False)
            at = (found.value, place)
            ax.annotate(f"{found.value:.3f}", at, (0, 8), textcoords="offset points", ha="center", fontsize=9)
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.set_ylim(len(rows) - 0.4, -0.7)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        ends = [end for _, found in rows for end in (found.value, found.low, found.high) if end is not None]
        if ends:
            ax.set_xlim(*within_unit(ends))
        ax.set_xlabel(figure)
        ax.set_title(title)

    return png(draw, 1, "", height=max(2.2, 1.2 + 0.5 * len(rows)))


def _curves(found: Judged, title: str, x: str, y: str, curve: Curve, area: str) -> bytes:
    columns = found.columns
    panels = len(columns) if len(columns) > len(COLOURS) else 1

    def draw(axes: Sequence[Axes]) -> None:
        for place, c in enumerate(columns):
            ax = axes[place if panels > 1 else 0]
            curve(ax, found, c, COLOURS[0 if panels > 1 else place], panels > 1)
        for place, ax in enumerate(axes):
            square(ax, panels > 1)
            if panels == 1:
                ax.set_xlabel(x)
                ax.set_ylabel(y)
                ax.set_title(title)
                ax.plot([], [], "o", color=GREY, markerfacecolor="white", label="operating point")
                # Beside the curves: a square of seven leaves no corner free.
                ax.legend(title=area, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9, title_fontsize=9)
            else:
                ax.set_xlabel(x if place >= panels - COLUMNS else "")
                ax.set_ylabel(y if place % COLUMNS == 0 else "")

    return png(draw, panels, f"{title} (the number: {area})" if panels > 1 else "")


def _roc(ax: Axes, found: Judged, c: int, colour: str, small: bool) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    if small or c == found.columns[0]:
        ax.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
    truth, score, answer = _known(found, c)
    name, at = found.decision.classes[c], 0.95 if small else 0
    if not 0 < truth.sum() < len(truth):
        _label(ax, name, None, colour, at)
        return
    x, y, _ = roc_curve(truth, score)
    ax.plot(x, y, color=colour, clip_on=False, zorder=2)
    _label(ax, name, float(roc_auc_score(truth, score)), colour, at)
    _point(ax, (answer & ~truth).sum() / (~truth).sum(), (answer & truth).sum() / truth.sum(), colour)


def _pr(ax: Axes, found: Judged, c: int, colour: str, small: bool) -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    truth, score, answer = _known(found, c)
    name, at = found.decision.classes[c], 0.08 if small else 0
    if not 0 < truth.sum() < len(truth):
        _label(ax, name, None, colour, at)
        return
    if small or len(found.columns) == 1:
        label = None if small else "share that have it"
        ax.axhline(truth.mean(), color=GREY, linewidth=1, linestyle=(0, (2, 3)), zorder=1, label=label)
    precision, recall, _ = precision_recall_curve(truth, score)
    ax.step(recall, precision, where="post", color=colour, clip_on=False, zorder=2)
    _label(ax, name, float(average_precision_score(truth, score)), colour, at)
    if answer.any():
        _point(ax, (answer & truth).sum() / truth.sum(), (answer & truth).sum() / answer.sum(), colour)


def _known(found: Judged, c: int) -> tuple[Any, Any, Any]:
    known = found.target[:, c] >= 0
    return found.target[known, c] == 1, found.probabilities[known, c], found.answers[known, c]


def _label(ax: Axes, name: str, area: float | None, colour: str, x: float) -> None:
    """Into the legend; of a small panel (``x`` above 0) the name into the title, and the area to that place."""
    told = "no curve" if area is None else f"{area:.3f}"
    if not x:
        ax.plot([], [], color=colour, label=f"{short_name(name)} {told}")
        return
    ax.set_title(short_name(name), fontsize=8)
    ax.text(x, 0.06, told, transform=ax.transAxes, ha="right" if x > 0.5 else "left", fontsize=8)


def _point(ax: Axes, x: float, y: float, colour: str) -> None:
    ax.plot(
        x, y, "o", color=colour, markerfacecolor="white", markeredgewidth=1.6, markersize=6, clip_on=False, zorder=4
    )


def _matrix(ax: Axes, labels: Sequence[str], counts: np.ndarray, small: bool) -> None:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ax.grid(visible=False)
    size = 8 if small or len(labels) > 6 else 11
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count}" if small or len(labels) > 6 else f"{count}\n{share[row, column]:.0%}"
        colour = "white" if share[row, column] > 0.55 else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    long = max(map(len, labels)) * len(labels) > 40
    names = [short_name(label) for label in labels]
    tick: dict[str, Any] = {"fontsize": 7 if small else 9}
    ax.set_xticks(range(len(labels)), names, rotation=35 if long else 0, ha="right" if long else "center", **tick)
    ax.set_yticks(range(len(labels)), names, **tick)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
