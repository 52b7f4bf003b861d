"""The demo page: layout, handlers, texts. It knows a visitor; everything about people is in ``talking_heads``."""
