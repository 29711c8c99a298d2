"""Bridges to other libraries; each is imported by name, never by `import ganzoo`."""
