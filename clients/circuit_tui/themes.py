"""The app's themes: quiet dark and light ones, and one of high contrast."""

from typing import Final

from textual.theme import Theme

DARK: Final = Theme(
    name="circuit-dark",
    primary="#6cb6ff",
    secondary="#8ddb8c",
    accent="#e0b25f",
    warning="#e0b25f",
    error="#ff7b72",
    success="#7ee787",
    foreground="#d7dde4",
    background="#0f1419",
    surface="#0f1419",
    panel="#1a2129",
    dark=True,
    variables={
        "block-cursor-background": "#6cb6ff",
        "block-cursor-foreground": "#0f1419",
        "block-cursor-text-style": "bold",
        "footer-background": "#1a2129",
        "footer-key-foreground": "#6cb6ff",
        "footer-description-foreground": "#9aa7b4",
        "scrollbar": "#33404d",
        "scrollbar-background": "#0f1419",
        "scrollbar-hover": "#4a5a6a",
        "scrollbar-active": "#6cb6ff",
    },
)
LIGHT: Final = Theme(
    name="circuit-light",
    primary="#0b57a4",
    secondary="#1f6f3a",
    accent="#8a5a00",
    warning="#8a5a00",
    error="#b3261e",
    success="#1a6b34",
    foreground="#1c2228",
    background="#fbfbf8",
    surface="#fbfbf8",
    panel="#eceae3",
    dark=False,
    variables={
        "block-cursor-background": "#0b57a4",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "footer-background": "#eceae3",
        "footer-key-foreground": "#0b57a4",
        "footer-description-foreground": "#4c555e",
        "scrollbar": "#c9c5ba",
        "scrollbar-background": "#fbfbf8",
    },
)
HIGH_CONTRAST: Final = Theme(
    name="circuit-high-contrast",
    primary="#ffff00",
    secondary="#00ffff",
    accent="#ffff00",
    warning="#ffff00",
    error="#ff8080",
    success="#00ff00",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    dark=True,
    variables={
        "block-cursor-background": "#ffff00",
        "block-cursor-foreground": "#000000",
        "block-cursor-text-style": "bold",
        "footer-background": "#000000",
        "footer-key-foreground": "#ffff00",
        "footer-description-foreground": "#ffffff",
        "text-muted": "#ffffff",
        "foreground-muted": "#ffffff",
        "scrollbar": "#ffffff",
        "scrollbar-background": "#000000",
    },
)
THEMES: Final = (DARK, LIGHT, HIGH_CONTRAST)
