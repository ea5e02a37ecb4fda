"""Draw the picture of the README, once for light and once for dark pages.

    python docs/pictures/pipeline.py

The numbers are those of `make demo` (docs/measured/demo.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 1200, 500
SANS = "-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"


@dataclass(frozen=True)
class Theme:
    """Colors of one page: text, secondary text, lines, cards, and an accent for each format and for a pass."""

    text: str
    muted: str
    line: str
    card: str
    node: str
    formats: tuple[str, ...]
    passed: str


@dataclass(frozen=True)
class File:
    """One phone file of the demo, with the worst SQNR of its 27 cases and the threshold of its precision, in dB."""

    format: str
    name: str
    detail: str
    runtime: str
    sqnr_db: float
    threshold_db: float


THEMES = {
    "light": Theme(
        *("#1f2328", "#59636e", "#afb8c1", "#f6f8fa", "#ffffff"),
        formats=("#0072b2", "#8250df", "#d55e00", "#b0508a", "#7d6b00"),
        passed="#1a7f37",
    ),
    "dark": Theme(
        *("#f0f6fc", "#9198a1", "#4a525c", "#161b22", "#0d1117"),
        formats=("#56b4e9", "#ab7df8", "#e69f00", "#cc79a7", "#d2c057"),
        passed="#3fb950",
    ),
}
FILES = (
    File("Core ML", "mobilevit_xxs.mlpackage", "fp16, 1.94 MB", "coreml-reference", 48.9, 40),
    File("Core AI", "mobilevit_xxs.aimodel", "fp16, 1.86 MB", "coreai", 45.5, 40),
    File("TFLite", "mobilevit_xxs.tflite", "fp32, 3.66 MB", "litert-cpu", 116.7, 90),
    File("ExecuTorch", "mobilevit_xxs.pte", "fp32, 3.67 MB", "executorch", 114.6, 90),
    File("ONNX", "mobilevit_xxs.onnx", "fp32, 3.64 MB", "onnxruntime", 118.5, 90),
)
HEADINGS = (("checkpoint", 92), ("phone graph", 374), ("phone files", 669), ("verdicts", 1030))
FULL_SCALE_DB = 130
TOP, PITCH, ROW = 64, 82, 70  # of the rows of files, the distance and the height of each
MIDDLE = TOP + (PITCH * (len(FILES) - 1) + ROW) / 2


def draw(theme: Theme) -> str:
    """The SVG document."""

    def text(x: float, y: float, words: str, size: int = 14, color: str = theme.text, **more: str) -> str:
        attributes = {"font-family": SANS, "text-anchor": "middle"} | {k.replace("_", "-"): v for k, v in more.items()}
        rest = " ".join(f'{key}="{value}"' for key, value in attributes.items())
        return f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" {rest}>{words}</text>'

    def box(x: float, y: float, width: float, height: float, fill: str, line: str = theme.line, radius: int = 8) -> str:
        return (
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" stroke="{line}" '
            f'stroke-width="1.5"/>'
        )

    def arrow(path: str, color: str = theme.line) -> str:
        return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2" marker-end="url(#tip)"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="One checkpoint '
        f"becomes a phone graph, then Core ML, Core AI, TFLite, ExecuTorch and ONNX files, each with a verdict against "
        f'PyTorch">',
        f'<defs><marker id="tip" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{theme.muted}"/></marker></defs>',
    ]
    parts += [
        text(x, 34, words.upper(), 13, theme.muted, font_weight="600", letter_spacing="1.5") for words, x in HEADINGS
    ]

    parts.append(f'<g transform="translate(0 {MIDDLE - 217:g})">')
    # The checkpoint: sheets of paper, the releases that load as they are.
    parts += [box(24 - shift, 130 - shift, 148, 174, theme.card) for shift in (-12, -6)]
    releases = ("timm", "transformers", "ml-cvnets", "Microsoft Cream")
    parts += [
        box(24, 130, 148, 174, theme.node),
        text(98, 166, "model.pth", 15, font_family=MONO, font_weight="600"),
        *(text(98, 202 + 25 * row, name, 14, theme.muted) for row, name in enumerate(releases)),
        arrow("M192 217H260"),
        text(226, 205, "deploy", 13, theme.muted),
    ]

    # The phone graph: attention as matrix products, with its residual.
    nodes = {"conv": (374, 96), "q": (306, 150), "k": (370, 150), "v": (434, 150), "matmul": (332, 196)}
    nodes |= {"softmax": (332, 243), "matmul ": (374, 290), "add": (374, 336)}
    edges = (("conv", "q"), ("conv", "k"), ("conv", "v"), ("q", "matmul"), ("k", "matmul"), ("matmul", "softmax"))
    edges += (("softmax", "matmul "), ("v", "matmul "), ("matmul ", "add"))
    parts.append(box(266, 64, 216, 306, theme.card))
    for start, end in edges:
        (x1, y1), (x2, y2) = nodes[start], nodes[end]
        parts.append(
            f'<path d="M{x1} {y1 + 14}C{x1} {(y1 + y2) / 2} {x2} {(y1 + y2) / 2} {x2} {y2 - 14}" fill="none" '
            f'stroke="{theme.line}" stroke-width="1.8"/>'
        )
    residual = "M410 96C500 96 480 336 410 336"
    parts.append(f'<path d="{residual}" fill="none" stroke="{theme.line}" stroke-width="1.8" stroke-dasharray="5 4"/>')
    for name, (x, y) in nodes.items():
        width = 40 if len(name) == 1 else 72
        parts += [box(x - width / 2, y - 14, width, 28, theme.node, radius=14), text(x, y + 5, name.strip(), 13)]

    parts.append("</g>")

    # Each file, the runtime that executes it, and its worst case next to the threshold.
    for row, (file, color) in enumerate(zip(FILES, theme.formats, strict=True)):
        y = TOP + PITCH * row
        middle = y + ROW / 2
        parts += [
            arrow(f"M482 {MIDDLE:g}C518 {MIDDLE:g} 508 {middle:g} 542 {middle:g}"),
            box(546, y, 246, ROW, theme.node),
            f'<rect x="546" y="{y + 9}" width="5" height="{ROW - 18}" rx="2" fill="{color}"/>',
            text(566, y + 29, file.format, 16, color, text_anchor="start", font_weight="600"),
            text(780, y + 29, file.detail, 12, theme.muted, text_anchor="end"),
            text(566, y + 53, file.name, 13, text_anchor="start", font_family=MONO),
            arrow(f"M792 {middle:g}H858"),
            text(824, middle - 9, "run", 13, theme.muted),
            box(864, y, 328, ROW, theme.card),
            f'<circle cx="890" cy="{y + 20}" r="10" fill="{theme.passed}"/>',
            f'<path d="M885 {y + 20}l3.6 4.1l6.4 -7.3" fill="none" stroke="{theme.node}" stroke-width="2.2"/>',
            text(910, y + 25, file.runtime, 14, text_anchor="start", font_family=MONO),
            text(1176, y + 25, f"{file.sqnr_db} dB", 16, theme.passed, text_anchor="end", font_weight="600"),
        ]
        scale = 296 / FULL_SCALE_DB
        tick, reached = 880 + file.threshold_db * scale, round(file.sqnr_db * scale, 1)
        parts += [
            f'<rect x="880" y="{y + 38}" width="296" height="7" rx="3.5" fill="{theme.line}" opacity="0.45"/>',
            f'<rect x="880" y="{y + 38}" width="{reached}" height="7" rx="3.5" fill="{theme.passed}"/>',
            f'<path d="M{tick:.1f} {y + 34}v15" stroke="{theme.text}" stroke-width="2"/>',
            text(round(tick, 1), y + 63, f"{file.threshold_db} dB required", 12, theme.muted),
        ]
    parts.append(text(1028, HEIGHT - 10, "SQNR against PyTorch, worst of 27 images", 12, theme.muted))
    parts.append(text(374, MIDDLE + 176, "exact rewrites, preprocessing inside", 12, theme.muted))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    for theme_name, colors in THEMES.items():
        (Path(__file__).parent / f"pipeline-{theme_name}.svg").write_text(draw(colors))
